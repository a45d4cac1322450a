'use strict';
/*
 * One task, run by nx without any other: by `runDiscreteTasks`, which nx has for programs like dte from 21 on; before that, by nx's own runner,
 * given a graph of nothing but the task, hashed with the whole graph in view.
 *
 * As a program, in a workspace: exits with 0 where the nx that is installed there can do it.
 */
const path = require('node:path');
const { internals } = require('./link.cjs');

/** Whether this nx can do it, and puts what it makes into a cache such as dte's: nx before 20.8 has all the parts, and no such cache. */
function runsSingleTasks(nx) {
  if (typeof nx.maybe('native').HttpRemoteCache !== 'function') return false;
  return typeof discrete(nx) === 'function' || parts(nx).every((part) => typeof part === 'function');
}

/**
 * Run `task`, whose hash, where it has none, is computed here, from what is here. `graph` is the whole graph that it was planned in, `planned` its hash there, or ''.
 * Returns nx's result; what `lifeCycle` throws comes out before anything of the task has run.
 */
async function runSingle(nx, { task, planned, graph, projectGraph, nxJson }, lifeCycle) {
  const runDiscreteTasks = discrete(nx);
  if (!runDiscreteTasks) return runByItself(nx, { task, planned, graph, projectGraph, nxJson }, lifeCycle);
  const [[result]] = await Promise.all(await runDiscreteTasks([task], projectGraph, graph, nxJson, lifeCycle));
  return result;
}

async function runByItself(nx, { task, planned, graph, projectGraph, nxJson }, lifeCycle) {
  const [runner, hashTask, getRunner, createTaskHasher, CompositeLifeCycle] = parts(nx);
  nx.load('utils/dotenv').loadRootEnvFiles();
  process.env.NX_LOAD_DOT_ENV_FILES = 'true';
  const { runnerOptions } = getRunner({}, nxJson);
  const hasher = createTaskHasher(projectGraph, nxJson, runnerOptions);
  // What nx hashes beforehand, it hashes with its own environment, and the rest with the task's.
  const environment = planned ? process.env : nx.load('tasks-runner/task-env').getTaskSpecificEnv(task);
  if (!task.hash) await hashTask(hasher, projectGraph, graph, task, environment, nx.load('hasher/hash-task').getTaskDetails());
  let result;
  const collect = { endTasks: ([ended]) => void (result = ended) };
  await runner(
    [task],
    { ...runnerOptions, parallel: 1, lifeCycle: new CompositeLifeCycle([lifeCycle, collect]) },
    {
      initiatingProject: null,
      nxArgs: {},
      nxJson,
      projectGraph,
      hasher,
      taskGraph: { roots: [task.id], tasks: { [task.id]: task }, dependencies: { [task.id]: [] } },
      daemon: nx.load('daemon/client/client').daemonClient,
    },
  );
  return result;
}

function discrete(nx) {
  return nx.maybe('tasks-runner/init-tasks-runner').runDiscreteTasks;
}

function parts(nx) {
  return [
    nx.maybe('tasks-runner/default-tasks-runner').defaultTasksRunner,
    nx.maybe('hasher/hash-task').hashTask,
    nx.maybe('tasks-runner/run-command').getRunner,
    nx.maybe('hasher/create-task-hasher').createTaskHasher,
    nx.maybe('tasks-runner/life-cycle').CompositeLifeCycle,
  ];
}

/** The nx of the workspace at `root`, where it has a place of its own behind `./nx`. Throws where none is installed. */
function installed(root) {
  const paths = ['.', '.nx/installation'].map((place) => path.join(root, place));
  return internals(path.dirname(require.resolve('nx/src/tasks-runner/init-tasks-runner', { paths })));
}

if (require.main === module) process.exit(runsSingleTasks(installed(process.cwd())) ? 0 : 1);

module.exports = { installed, runSingle, runsSingleTasks };
