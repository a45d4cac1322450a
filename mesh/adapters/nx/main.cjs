'use strict';
/*
 * Preloaded into every node process under `dte run`: in the one that is nx, the tasks runner is replaced by one that hands nx's plan to dte
 * and shows what dte reports, through nx's own life cycle. nx has selected, checked and hashed by then, and prints and exits by itself
 * afterwards, so that neither its command line nor its output is imitated here.
 *
 *     plan ──▶ declined, or dte cannot be reached ──▶ nx's own runner, as if dte were not there; dte is told what became of the tasks
 *       └────▶ accepted ──▶ results, one by one ──▶ finish ──▶ nx's summary and exit code
 *                               └──▶ connection lost ──▶ an error, so a non-zero exit code
 *
 * One message is answered before the next is sent: `plan` by `accept`, `decline` or `leave`, `accept` by `begun`; `result` and `local` (show what
 * this machine's own cache has of a task) by `shown` or `missed`; `keep` (put what a task has left here into that cache) by `kept`; `decline` by
 * `over`, when nx has done it all, and that by `noted`.
 */
const crypto = require('node:crypto');
const fs = require('node:fs');
const Module = require('node:module');
const net = require('node:net');
const path = require('node:path');
const { setTimeout: sleep } = require('node:timers/promises');
const { isMainThread } = require('node:worker_threads');
const { internals, introduce, link, restore } = require('./link.cjs');
const { runsSingleTasks } = require('./single.cjs');

const RUNNERS = [
  { file: /[\\/]nx[\\/](?:dist[\\/])?src[\\/]tasks-runner[\\/]default-tasks-runner\.js$/, names: ['default', 'defaultTasksRunner'] },
  // Where nx.json carries a Cloud id, nx before 22.7 goes through this shell even with NX_NO_CLOUD.
  { file: /[\\/]nx[\\/](?:dist[\\/])?src[\\/]nx-cloud[\\/]nx-cloud-tasks-runner-shell\.js$/, names: ['nxCloudTasksRunnerShell'] },
];
const NX_ITSELF = /[\\/](?:\.bin[\\/]nx|nx[\\/](?:dist[\\/])?bin[\\/]nx(?:\.js)?)$/;

const TELL_MAX_MS = 2000;

const address = process.env.DTE_NX_SOCKET;
const option = process.env.DTE_NX_OPTION;
const folder = process.env.DTE_NX_BIN;
// Of this one scripts, and Yarn, make something else: only what is ours is taken out of it.
const { NODE_OPTIONS: mainJobs = null, ...saved } = JSON.parse(process.env.DTE_NX_SAVED ?? '{}');
const named = process.env.DTE_NX_INPUTS === 'named';
const whole = named || process.env.DTE_NX_WHOLE === '1';
const begun = { ...process.env }; // before nx adds its own, and what it reads from files
let taken = false;

if (address && isMainThread) {
  const compile = Module._extensions['.js'];
  Module._extensions['.js'] = function (module, filename) {
    compile(module, filename);
    const runner = RUNNERS.find(({ file }) => file.test(filename));
    if (!runner) return;
    const tasksRunner = path.join(path.dirname(filename), '..', 'tasks-runner');
    for (const name of runner.names) {
      const original = module.exports[name];
      module.exports[name] = (tasks, options, context) => run(original, internals(tasksRunner), tasks, options, context);
    }
  };
  // At once where it is sure that this is nx: a hash may depend on NODE_OPTIONS.
  if (NX_ITSELF.test(process.argv[1] ?? '')) hide(process.env);
}

/** What nx starts from here on, and any nx under that, is not ours; but for the cookie, by which it is found when it has to be ended. */
function hide(environment) {
  for (const name of Object.keys(environment)) if (name.startsWith('DTE_') && name !== 'DTE_TASK_COOKIE') delete environment[name];
  assign(environment, { NODE_OPTIONS: (environment.NODE_OPTIONS ?? '').replace(option, '').trim() || null });
  if (folder && environment.PATH) environment.PATH = environment.PATH.split(path.delimiter).filter((place) => place !== folder).join(path.delimiter);
}

async function run(original, nx, tasks, options, context) {
  if (taken) return original(tasks, options, context); // nx's own runner, called by the Cloud shell that we gave way to
  taken = true;
  hide(process.env);
  let conversation;
  try {
    const cache = nx.load('tasks-runner/cache').getCache(options);
    conversation = await Conversation.open(address);
    const local = await lookUp(nx, cache, options, context);
    const answer = await conversation.ask({ do: 'plan', plan: makePlan(nx, cache, options, context, local) });
    if (answer.do === 'leave') process.exit(0);
    if (answer.do === 'accept') return await new Run(nx, cache, options, context).drive(tasks, local.settled, conversation);
    notice(answer.reason);
    giveWay(nx);
    const statuses = await original(tasks, options, context);
    await conversation.tell({ do: 'over', tasks: outcomes(context.taskGraph, statuses) });
    return statuses;
  } catch (error) {
    if (!(error instanceof Unreachable)) throw error;
    notice(error.message);
  } finally {
    conversation?.close();
  }
  giveWay(nx);
  return original(tasks, options, context);
}

/** What became of each task that nx did by itself: its status, as nx calls it, and how long it took. */
function outcomes({ tasks }, statuses) {
  const known = Object.values(tasks).filter(({ id }) => typeof statuses?.[id] === 'string');
  return Object.fromEntries(known.map(({ id, startTime, endTime }) => [id, { status: statuses[id], ms: Math.max(0, Math.round(endTime - startTime)) || 0 }]));
}

/** Let nx and its tasks see what they would see without dte. */
function giveWay(nx) {
  assign(process.env, saved);
  // nx keeps each task's environment from when it was hashed.
  const taskEnvironment = nx.load('tasks-runner/task-env');
  const original = taskEnvironment.getTaskSpecificEnv;
  taskEnvironment.getTaskSpecificEnv = (...task) => {
    const environment = { ...original(...task) };
    hide(environment);
    assign(environment, saved);
    return environment;
  };
}

/** One accepted run: what nx's runner would do with its own results, done with dte's. */
class Run {
  constructor(nx, cache, options, context) {
    this.nx = nx;
    this.cache = cache;
    this.options = options;
    this.context = context;
    this.lifeCycle = options.lifeCycle;
    this.statuses = {};
    this.ended = new Map(); // continuous tasks that ended by themselves: { code, output }
  }

  async drive(tasks, settled, conversation) {
    const { total, discrete } = threads(this.options, this.context.taskGraph);
    await this.cache.init?.();
    await this.lifeCycle.startCommand?.(total, discrete);
    for (const id of settled) {
      if ((await this.showLocal(id)).do !== 'shown') throw new Error(`the result of ${id} has gone from the nx cache of this machine`);
    }
    let message = await conversation.ask({ do: 'begun' });
    while (message.do !== 'finish') message = await conversation.ask(await this.answer(message));
    await this.stopContinuous(tasks);
    const open = tasks.filter((task) => !this.statuses[task.id]).map((task) => task.id);
    if (open.length > 0) throw new Error(`dte ended the run without a result for: ${open.join(', ')}`);
    // Not in a `finally`: some versions would print a summary of success for what came to nothing.
    const { getPerformanceReport } = this.nx.maybe('tasks-runner/life-cycles/performance-life-cycle');
    await this.lifeCycle.endCommand?.(getPerformanceReport?.(tasks.length));
    return this.statuses;
  }

  answer(message) {
    if (message.do === 'keep') return this.keep(message);
    return message.do === 'local' ? this.showLocal(message.id, message.others) : this.show(message);
  }

  async keep({ id, hash, output }) {
    const task = { ...this.context.taskGraph.tasks[id], hash };
    introduce(this.nx, task);
    try {
      // Not initialised, so that nobody else is given it.
      await this.nx.load('tasks-runner/cache').getCache(this.options).put(task, output, task.outputs, 0);
    } catch (error) {
      notice(`${id}: its result was not put into the nx cache of this machine: ${error.message}`);
    }
    return { do: 'kept', id };
  }

  async show(result) {
    const task = this.context.taskGraph.tasks[result.id];
    for (const [id, code, output] of result.ended) this.ended.set(id, { code, output });
    if (result.status === 'skipped') {
      this.statuses[task.id] = 'skipped'; // as nx does: not a word until the summary
      return { do: 'shown', id: task.id };
    }
    task.hash = result.hash || task.hash || `dte-${task.id}`;
    introduce(this.nx, task);
    let terminalOutput = result.output;
    if (result.restore) {
      const restored = await restore(this.nx, this.cache, task, result.others);
      if (!restored || restored.code !== 0) return { do: 'missed', id: task.id };
      terminalOutput = restored.terminalOutput;
    }
    const status = result.cached ? 'remote-cache' : result.status;
    await this.tell(task, status, result, terminalOutput);
    return { do: 'shown', id: task.id };
  }

  async showLocal(id, others) {
    const task = this.context.taskGraph.tasks[id];
    const restored = await restore(this.nx, this.cache, task, others);
    if (!restored || restored.code !== 0) return { do: 'missed', id };
    const now = Date.now();
    const status = restored.remote ? 'remote-cache' : task.outputs.length > 0 ? 'local-cache' : 'local-cache-kept-existing';
    await this.tell(task, status, { code: 0, started_ms: now, ended_ms: now }, restored.terminalOutput ?? '');
    return { do: 'shown', id };
  }

  async tell(task, status, { code, started_ms, ended_ms }, terminalOutput) {
    await this.lifeCycle.scheduleTask?.(task);
    task.startTime = started_ms;
    await this.lifeCycle.startTasks?.([task], { groupId: 0 });
    if (!task.continuous || status === 'failure') this.print(task, status, terminalOutput);
    task.endTime = ended_ms;
    // nx's own runner tells its life cycle no other code, whatever the task's was.
    await this.lifeCycle.endTasks?.([{ task, status, code: code === 0 ? 0 : 1, terminalOutput }], { groupId: 0 });
    this.statuses[task.id] = status;
  }

  print(task, status, terminalOutput) {
    if (!this.streams(task, status)) {
      this.lifeCycle.printTaskTerminalOutput?.(task, status, terminalOutput);
      return;
    }
    const { output } = this.nx.load('utils/output');
    output.logCommand(this.nx.load('tasks-runner/utils').getPrintableCommandArgsForTask(task).join(' '));
    const { writePrefixedLines, getColor } = this.nx.maybe('tasks-runner/running-tasks/output-prefix');
    if (process.env.NX_PREFIX_OUTPUT === 'true' && writePrefixedLines) {
      const { project } = task.target;
      writePrefixedLines(terminalOutput, getColor(project)(`${project}:`));
    } else if (output.writeTaskOutputChunk) {
      output.writeTaskOutputChunk(terminalOutput, process.stdout);
    } else {
      process.stdout.write(terminalOutput);
    }
  }

  /** Whether nx would have shown this task's output as it came, past its life cycle: what it does for the project one asked for. */
  streams(task, status) {
    if (status !== 'success' && status !== 'failure') return false;
    const { nxArgs, initiatingProject } = this.context;
    const { isStaticOutputStyle, printsTaskOutput } = this.nx.load('utils/output');
    const specified = nxArgs?.specifiedOutputStyle ?? nxArgs?.outputStyle;
    if (isStaticOutputStyle ? isStaticOutputStyle(specified) : specified === 'static') return false;
    if (printsTaskOutput && !printsTaskOutput(nxArgs?.resolvedOutputStyle ?? 'static-failures-only')) return false;
    return this.nx.load('tasks-runner/utils').shouldStreamOutput(task, initiatingProject);
  }

  /**
   * Continuous tasks ran beside those that needed them, on their machines, and were stopped there, or ended before; where nobody ran, they did not
   * either.
   */
  async stopContinuous(tasks) {
    const { continuousDependencies } = this.context.taskGraph;
    const needs = (task, id) => edges(continuousDependencies, task.id).includes(id);
    const ran = (task) => (task.continuous ? tasks.some((each) => needs(each, task.id) && ran(each)) : this.statuses[task.id] !== 'skipped');
    // nx 21 stops them without a word to its life cycle, and does not mind if they end.
    const told = 'handleContinuousTaskExit' in (this.nx.maybe('tasks-runner/task-orchestrator').TaskOrchestrator?.prototype ?? {});
    for (const task of tasks.filter((each) => each.continuous)) {
      this.statuses[task.id] = ran(task) ? 'success' : 'skipped';
      if (!told || !ran(task)) continue;
      task.hash ??= `dte-${task.id}`;
      introduce(this.nx, task);
      const now = Date.now();
      const ended = this.ended.get(task.id);
      if (ended) console.error(`Task "${task.id}" is continuous but exited with code ${ended.code}`);
      await this.tell(task, ended ? 'failure' : 'success', { code: ended ? 1 : 0, started_ms: now, ended_ms: now }, ended?.output ?? '');
    }
  }
}

/** dte could not be asked, and nothing has been printed or run: nx may do all by itself. */
class Unreachable extends Error {}

/** The socket to dte: what is read is asked for, one message after the other. */
class Conversation {
  static async open(address) {
    const socket = net.connect(address);
    await new Promise((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', (error) => reject(new Unreachable(`dte could not be reached (${error.message}); nx runs the tasks on this machine`)));
    });
    return new Conversation(socket);
  }

  constructor(socket) {
    this.socket = socket;
    this.inbox = [];
    this.accepted = false;
    this.closed = false;
    this.send = link(socket, (message) => this.arrive(message), () => this.arrive(null));
  }

  ask(message) {
    this.send(message);
    return this.next();
  }

  /** Have it noted, if dte is still there and not too busy: nothing here depends on it. */
  async tell(message) {
    await Promise.race([this.ask(message), sleep(TELL_MAX_MS, null, { ref: false })]).catch(() => {});
  }

  async next() {
    while (this.inbox.length === 0 && !this.closed) await new Promise((wake) => (this.wake = wake));
    if (this.inbox.length > 0) return this.inbox.shift();
    if (this.accepted) throw new Error('The connection to dte was lost, so the remaining tasks have no result. See the output of `dte run` above.');
    throw new Unreachable('dte closed the connection before it took the run over; nx runs the tasks on this machine');
  }

  arrive(message) {
    if (message === null) this.closed = true;
    else this.inbox.push(message);
    if (message?.do === 'accept') this.accepted = true;
    this.wake?.();
  }

  close() {
    this.socket.end();
  }
}

/**
 * What nx's cache on this machine has: `local`, the tasks whose result it has, and `settled`, those of them that wait for nothing else.
 * A hash that depends on outputs is computed as soon as they are there, as nx would do it; of one that has to wait longer, what it depends on
 * beside them is noted, so that an agent can compare.
 */
async function lookUp(nx, cache, options, context) {
  const { taskGraph, projectGraph, hasher } = context;
  const { hashTask, getTaskDetails } = nx.load('hasher/hash-task');
  const order = [...closure(taskGraph, Object.keys(taskGraph.tasks))].map((id) => taskGraph.tasks[id]);
  const local = new Set(options.skipNxCache ? [] : await cachedHere(cache, order));
  const settled = new Set();
  const inPlace = new Set();
  const waiting = [];
  for (const task of order) {
    const needed = edges(taskGraph.dependencies, task.id);
    const free = needed.every((id) => settled.has(id)) && edges(taskGraph.continuousDependencies, task.id).length === 0;
    if (task.cache && !task.hash && free) {
      const missing = [...closure(taskGraph, needed)].filter((id) => !inPlace.has(id));
      for (const id of missing) await restore(nx, cache, taskGraph.tasks[id]);
      for (const id of missing) inPlace.add(id);
      await hashTask(hasher, projectGraph, taskGraph, task, environmentOf(nx, context, task), getTaskDetails());
      for (const id of await cachedHere(cache, [task])) local.add(id);
    } else if (task.cache && !task.hash) waiting.push(task);
    if (free && local.has(task.id)) settled.add(task.id);
  }
  await foresee(nx, context, waiting);
  return { local, settled };
}

/** Have nx note what the hashes of `tasks` depend on, as far as it is there, and no hash. */
async function foresee(nx, context, tasks) {
  const { taskGraph, projectGraph, hasher } = context;
  const { hashTask, hashTasks } = nx.load('hasher/hash-task');
  const copies = tasks.map((task) => ({ ...task }));
  try {
    if (hashTasks) {
      const environments = Object.fromEntries(copies.map((task) => [task.id, environmentOf(nx, context, task)]));
      await hashTasks(hasher, projectGraph, taskGraph, environments, null, copies);
    } else {
      for (const task of copies) await hashTask(hasher, projectGraph, taskGraph, task, environmentOf(nx, context, task), null);
    }
  } catch {
    // A hasher of the user's own may need the outputs.
  }
  tasks.forEach((task, at) => (task.hashDetails = copies[at].hashDetails));
}

function environmentOf(nx, { projectGraph }, task) {
  return nx.load('tasks-runner/task-env').getTaskSpecificEnv(task, projectGraph);
}

/** All that a task waits for, and that it waits for in turn, each behind what it waits for itself; of all tasks where `ids` are all. */
function closure({ dependencies }, ids, found = new Set()) {
  for (const id of ids) {
    if (found.has(id)) continue;
    closure({ dependencies }, edges(dependencies, id), found);
    found.add(id);
  }
  return found;
}

function makePlan(nx, cache, options, context, { local, settled }) {
  const everythingIsHere = isDone(context, settled);
  // Of a run with nothing left to do that is enough: it should cost no more than nx alone.
  const graph = everythingIsHere && !whole ? { tasks: {}, dependencies: {} } : context.taskGraph;
  const all = Object.values(graph.tasks);
  return {
    nx: nx.version,
    node: process.version,
    runs_single_tasks: runsSingleTasks(nx),
    command: process.argv.slice(2),
    initiating: (context.initiatingTasks ?? []).map((task) => task.id),
    parallel: threads(options, context.taskGraph).discrete,
    bail: Boolean(context.nxArgs?.nxBail),
    skip_cache: Boolean(options.skipNxCache),
    skip_remote_cache: Boolean(options.skipRemoteCache),
    other_remote_cache: otherRemoteCache(),
    legacy_cache: isLegacy(nx, cache),
    node_path: nodePath(nx.load('utils/workspace-root').workspaceRoot),
    ...nodeOptions(nx.load('utils/workspace-root').workspaceRoot),
    environment: everythingIsHere ? {} : begun,
    everything_is_here: everythingIsHere,
    local: [...local],
    settled: [...settled],
    tasks: Object.fromEntries(all.map((task) => [task.id, { ...essence(task), hash: task.hash ?? '' }])),
    // Of what is here no agent compares them, and to make them takes a while.
    inputs: Object.fromEntries(all.filter((task) => named || !local.has(task.id)).map((task) => [task.id, marks(task)])),
    input_names: named ? Object.fromEntries(all.map((task) => [task.id, Object.keys(task.hashDetails?.nodes ?? {})])) : {},
    // Kept as this nx has them: plain ids up to 23, objects since 24.
    dependencies: graph.dependencies,
    continuous_dependencies: graph.continuousDependencies ?? {},
  };
}

/** Whether nx has nothing to do but to show what its cache has. */
function isDone({ taskGraph, initiatingTasks = [] }, settled) {
  const all = Object.values(taskGraph.tasks);
  return all.length > 0 && !initiatingTasks.some((task) => task.continuous) && all.every((task) => task.continuous || settled.has(task.id));
}

/** Those whose results this machine's cache has. Not initialised yet, the cache answers for nobody else. */
async function cachedHere(cache, all) {
  const known = all.filter((task) => task.cache && task.hash);
  const found = (await cache.getBatch?.(known)) ?? new Map();
  if (!cache.getBatch) for (const task of known) found.set(task.hash, await cache.get(task));
  return known.filter((task) => found.get(task.hash)?.code === 0).map((task) => task.id);
}

/** The task as nx planned it, without what only this process has. */
function essence({ id, target, overrides, projectRoot, outputs, cache, parallelism, continuous }) {
  return { id, target, overrides, projectRoot, outputs, cache: Boolean(cache), parallelism: parallelism !== false, continuous: Boolean(continuous) };
}

/** Eight characters for each input of the hash and its value: enough for an agent to name its own inputs that differ. */
function marks(task) {
  const nodes = Object.entries(task.hashDetails?.nodes ?? {});
  return nodes.map(([name, value]) => crypto.createHash('sha1').update(`${name}\0${value}`).digest('hex').slice(0, 8)).join('');
}

/** nx prefers these packages to the cache it is told of by environment variables, and would never ask ours. */
function otherRemoteCache() {
  const packages = ['s3-cache', 'shared-fs-cache', 'gcs-cache', 'azure-cache'].flatMap((name) => [`@nx/${name}`, `@nx/powerpack-${name}`]);
  return packages.find((name) => {
    try {
      return require.resolve(name, { paths: [process.cwd()] });
    } catch {
      return false;
    }
  }) ?? '';
}

/** Whether nx 20 keeps its results as it did before it had a database: it asks no cache on the network then, or only that of Nx Cloud. */
function isLegacy(nx, cache) {
  const { DbCache } = nx.load('tasks-runner/cache');
  return DbCache !== undefined && !(cache instanceof DbCache);
}

/** Where node looks for modules at last, within the workspace relative to it: pnpm starts nx with such places, and nx resolves imports there. */
function nodePath(root) {
  const roots = [root, fs.realpathSync(root)];
  const places = (process.env.NODE_PATH ?? '').split(path.delimiter).filter(Boolean);
  return places.map((place) => {
    const within = roots.map((each) => path.relative(each, place)).find((relative) => !relative.startsWith('..') && !path.isAbsolute(relative));
    return within === undefined ? place : `./${within}`;
  });
}

/** What NODE_OPTIONS this nx was started with, where the main job itself has others. */
function nodeOptions(root) {
  const options = process.env.NODE_OPTIONS ?? null;
  if (options === mainJobs || (!options && !mainJobs)) return {};
  return { node_options: [fs.realpathSync(root), root].reduce((text, each) => text.replaceAll(each, '{workspaceRoot}'), options ?? '') };
}

/** How many tasks nx would run at once: `parallel` may be missing, a boolean, or their names as strings. */
function threads(options, graph) {
  const { parallel, maxParallel } = options;
  const unset = ['true', true, undefined, ''].includes(parallel);
  const discrete = unset ? Number(maxParallel || 3) : Number(parallel) || 1;
  return { discrete, total: discrete + Object.values(graph.tasks).filter((task) => task.continuous).length };
}

function edges(table, id) {
  return (table?.[id] ?? []).map((edge) => edge.id ?? edge);
}

function assign(environment, values) {
  for (const [name, value] of Object.entries(values)) {
    if (value === null || value === undefined) delete environment[name];
    else environment[name] = value;
  }
}

function notice(text) {
  process.stderr.write(`dte: ${text}\n`);
}
