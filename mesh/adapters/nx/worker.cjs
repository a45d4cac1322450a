'use strict';
/*
 * nx kept running on an agent, so that a task costs no start of nx. It is given one whole plan and told to restore or to run single tasks. It
 * decides nothing: every request is answered, in any order, under the number that it came with.
 *
 * Started with the workspace as its directory and the path of dte's socket as its argument; when that connection closes, it ends with all
 * that it started.
 */
const crypto = require('node:crypto');
const net = require('node:net');
const { setTimeout: sleep } = require('node:timers/promises');
const { introduce, link, restore } = require('./link.cjs');
const { installed, runSingle } = require('./single.cjs');

const GRACE_MS = 2000;

const cookies = new Map(); // what marks the processes of each task that is under way, by id
const watchers = new Map(); // who is told what each of them prints as it comes, by id
const companions = new Map(); // continuous tasks that are running, by id: { users, running, exit, ended: how, once it has }
let nx;
let cache;
let taskGraph;
let projectGraph;
let nxJson;

const requests = {
  plan({ graph, values, unset }) {
    // Before anything is hashed: variables are inputs, too.
    for (const name of unset) delete process.env[name];
    Object.assign(process.env, values);
    // nx from 23 on takes null for a broken hash, and none for one that it has to compute.
    for (const task of Object.values(graph.tasks)) if (!task.hash) delete task.hash;
    taskGraph = graph;
    return {};
  },

  async restore({ task: planned, name, others }) {
    const task = { ...planned, hash: name };
    introduce(nx, task);
    const result = await restore(nx, cache, task, others);
    return { restored: result !== null && result.code === 0 };
  },

  async run({ id, hash, inputs, compare, cookie }, say) {
    const graph = taskGraph;
    const task = { ...graph.tasks[id] };
    if (compare) delete task.hash; // nx computes it again, from what is here
    else if (task.hash) introduce(nx, task);
    const users = companionsOf(graph, id);
    cookies.set(id, cookie);
    watchers.set(id, say);
    let reply;
    const beside = [];
    try {
      await start(graph, users);
      reply = await runOne(graph, task, hash, inputs, compare);
    } catch (error) {
      if (!(error instanceof Drift)) throw error;
      reply = { drift: error.inputs };
    } finally {
      cookies.delete(id);
      watchers.delete(id);
      beside.push(...(await stop(users)));
    }
    return { ...reply, beside };
  },

  /** Keep a task from starting, if it has not started: what has is ended from outside, by its cookie. */
  cancel({ id }) {
    cookies.delete(id);
    return {};
  },
};

class Drift extends Error {
  constructor(task, inputs) {
    super(`the hash of ${task.id} is another one here`);
    this.inputs = inputs;
  }
}

async function runOne(graph, task, hash, inputs, compare) {
  // nx awaits both before anything of the task runs: what is thrown there keeps it from running.
  const lifeCycle = {
    scheduleTask(scheduled) {
      if (!compare || (hash && scheduled.hash === hash)) return;
      const differ = differing(scheduled, inputs, hash ? [] : outputsBelow(graph, scheduled.id));
      if (hash || differ.length > 0) throw new Drift(scheduled, differ);
    },
    startTasks([started]) {
      if (!cookies.has(started.id)) throw new Error(`${started.id} was cancelled before it started`);
    },
  };
  const result = await runSingle(nx, { task, planned: hash, graph, projectGraph, nxJson }, lifeCycle);
  return {
    status: result.status,
    code: result.code ?? (result.status === 'failure' ? 1 : 0),
    output: wellFormed(result.terminalOutput ?? ''),
    hash: result.task.hash ?? '',
    started_ms: result.task.startTime ?? null,
    ended_ms: result.task.endTime ?? null,
  };
}

/** Half a character, as a cut stream may leave it, is no JSON. */
function wellFormed(text) {
  return Buffer.from(text).toString();
}

/** The names of this machine's inputs that the main job did not have, or had with another value; but for those that are `outputs` of others. */
function differing(task, inputs, outputs) {
  if (!inputs) return [];
  const known = new Set(inputs.match(/.{8}/g));
  const mark = (name, value) => crypto.createHash('sha1').update(`${name}\0${value}`).digest('hex').slice(0, 8);
  const nodes = Object.entries(task.hashDetails?.nodes ?? {});
  const given = (name) => outputs.some((output) => name.endsWith(`:${output}`));
  return nodes.filter(([name, value]) => !known.has(mark(name, value)) && !given(name)).map(([name]) => name);
}

/** The outputs of all that `id` waits for, as inputs of a hash are named: one by one, or all of a task's in one name. */
function outputsBelow(graph, id, found = new Map()) {
  for (const edge of graph.dependencies[id] ?? []) {
    const needed = edge.id ?? edge;
    if (found.has(needed)) continue;
    const outputs = graph.tasks[needed]?.outputs ?? [];
    found.set(needed, [...outputs, outputs.join(',')]);
    outputsBelow(graph, needed, found);
  }
  return [...found.values()].flat();
}

/** The continuous tasks that must be running while `id` does, each behind those that it needs itself. */
function companionsOf(graph, id, found = new Set()) {
  for (const edge of graph.continuousDependencies?.[id] ?? []) {
    const needed = edge.id ?? edge;
    if (!found.has(needed)) companionsOf(graph, needed, found).add(needed);
  }
  return found;
}

async function start(graph, ids) {
  const { runContinuousTasks } = nx.load('tasks-runner/init-tasks-runner');
  for (const id of ids) {
    const companion = companions.get(id) ?? { users: 0 };
    companion.users += 1;
    companions.set(id, companion);
    if (!companion.running) {
      const task = { ...graph.tasks[id] };
      delete task.hash;
      companion.running = runContinuousTasks([task], projectGraph, graph, nxJson, {}).then((running) => running[id]);
      companion.exit = companion.running.then((running) => new Promise((said) => running.onExit((code, output) => said({ code, output: output ?? '' }))));
      companion.exit.then((how) => (companion.ended = how)).catch(() => {}); // `running` says it too
    }
    await companion.running;
  }
}

/** Stop those of `ids` that nobody else uses. Returns what each of them had printed, and the exit code of each one that had ended by itself. */
async function stop(ids) {
  const said = [];
  for (const id of [...ids].reverse()) {
    const companion = companions.get(id);
    if (!companion) continue;
    companion.users -= 1;
    if (companion.users === 0) companions.delete(id);
    if (companion.ended) said.unshift([id, wellFormed(companion.ended.output), companion.ended.code ?? 1]);
    if (companion.ended || companion.users > 0) continue;
    try {
      const running = await companion.running;
      if (!running) continue;
      await running.kill();
      // Some kinds of running tasks never tell of their exit once they have been killed.
      const { output } = await Promise.race([companion.exit, sleep(GRACE_MS, { output: '' })]);
      said.unshift([id, wellFormed(output), null]);
    } catch (error) {
      console.error(`${id} could not be stopped:`, error);
    }
  }
  return said;
}

/** Let each task's processes carry a cookie of their own, by which dte finds all of them and nobody else's. */
function markTasks() {
  const taskEnvironment = nx.load('tasks-runner/task-env');
  const original = taskEnvironment.getTaskSpecificEnv;
  taskEnvironment.getTaskSpecificEnv = (task, ...rest) => {
    const cookie = cookies.get(task.id);
    const environment = original(task, ...rest);
    return cookie ? { ...environment, DTE_TASK_COOKIE: cookie } : environment;
  };
}

/** Tell what a task prints before nx tells it whole, if it has a way to (nx 21 and later). */
function watchTasks() {
  const { TaskOrchestrator } = nx.maybe('tasks-runner/task-orchestrator');
  const original = TaskOrchestrator?.prototype.runTask;
  if (!original) return;
  TaskOrchestrator.prototype.runTask = async function (task, ...rest) {
    const running = await original.call(this, task, ...rest);
    running?.onOutput?.((text) => watchers.get(task.id)?.(String(text)));
    return running;
  };
}

async function serve(send, message) {
  let reply;
  try {
    reply = await requests[message.do](message, (text) => send({ said: message.call, text: wellFormed(text) }));
  } catch (error) {
    reply = { error: String(error?.stack ?? error) };
  }
  send({ reply: message.call, ...reply });
}

async function main() {
  const socket = net.connect(process.argv[2]);
  // nx's own handlers of this signal end the tasks that are running.
  const send = link(socket, (message) => serve(send, message), () => {
    setTimeout(() => process.exit(1), GRACE_MS).unref();
    process.kill(process.pid, 'SIGTERM');
  });
  socket.pause();
  try {
    nx = installed(process.cwd());
    cache = nx.load('tasks-runner/cache').getCache({});
    await cache.init?.();
    // As JSON, as it is where plugins are processes of their own: what a plugin left `undefined` is no option of its task then.
    projectGraph = JSON.parse(JSON.stringify(await nx.load('project-graph/project-graph').createProjectGraphAsync({ exitOnError: false })));
    nxJson = nx.load('config/configuration').readNxJson();
    markTasks();
    watchTasks();
  } catch (error) {
    socket.end(`${JSON.stringify({ ready: false, error: String(error?.stack ?? error) })}\n`);
    return;
  }
  send({ ready: true, nx: nx.version, node: process.version });
  socket.resume();
}

// One orchestrator for each task listens for signals; before nx 22.7 they are never taken off again.
for (const emitter of [process, process.stdout, process.stderr]) emitter.setMaxListeners(0);
process.on('unhandledRejection', (error) => console.error('unhandled in the nx worker:', error));
main();
