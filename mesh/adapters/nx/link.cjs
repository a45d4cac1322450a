'use strict';
/*
 * What main.cjs and worker.cjs share: JSON lines over a socket to dte, and a way to nx's own modules that holds from nx 20.8 to 24.
 */
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');

/** Speak JSON lines on `socket`; `closed` is called once, when the other side is gone. Returns the function that sends one value. */
function link(socket, message, closed) {
  let parts = [];
  socket.on('data', (data) => {
    let end;
    while ((end = data.indexOf(0x0a)) >= 0) {
      const line = Buffer.concat([...parts, data.subarray(0, end)]);
      parts = [];
      data = data.subarray(end + 1);
      message(JSON.parse(line.toString('utf8')));
    }
    if (data.length > 0) parts.push(data);
  });
  socket.on('error', () => {}); // 'close' follows, and says all there is to say
  socket.on('close', closed);
  return (value) => socket.write(`${JSON.stringify(value)}\n`);
}

/**
 * nx's modules by their place below `src`, whatever this version's layout. The tasks-runner folder is the fixed point: it is what `exports`
 * maps for every version, and where the runner is found.
 */
function internals(tasksRunnerFolder) {
  const source = path.dirname(tasksRunnerFolder);
  const load = (name) => require(path.join(source, name));
  const maybe = (name) => {
    try {
      return load(name);
    } catch {
      return {};
    }
  };
  const home = path.basename(path.dirname(source)) === 'dist' ? path.join(source, '..', '..') : path.join(source, '..');
  return { load, maybe, version: require(path.join(home, 'package.json')).version };
}

/** A hash that nx did not compute in this process is not in its database yet, and the tables of its cache and its history refer to that one. */
function introduce(nx, task) {
  const { project, target, configuration } = task.target;
  nx.maybe('hasher/hash-task').getTaskDetails?.()?.recordTaskDetails([{ hash: task.hash, project, target, configuration }]);
}

/**
 * Bring the outputs of `task` into the workspace: from nx's local cache, or through dte's loopback cache. Returns what nx knows of the result,
 * or null where neither has it. nx clears the places of the outputs first: what `others`, tasks of the run, have there is put back.
 */
async function restore(nx, cache, task, others = []) {
  const putBack = hold(nx, others);
  try {
    const result = await cache.get(task);
    if (result && !result.remote) await cache.copyFilesFromCache(task.hash, result, task.outputs);
    return result;
  } finally {
    putBack();
  }
}

/** Copy what there is of the `outputs` of each of `others`. Returns the function that puts it back: as a `whole`, or what is missing. */
function hold(nx, others) {
  if (others.length === 0) return () => {};
  const { workspaceRoot } = nx.load('utils/workspace-root');
  const { expandOutputs } = nx.load('native');
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'dte-nx-held-'));
  const how = { recursive: true, preserveTimestamps: true, verbatimSymlinks: true };
  const there = (outputs) => expandOutputs(workspaceRoot, outputs).filter((each) => fs.existsSync(path.join(workspaceRoot, each)));
  try {
    others.forEach(({ outputs }, at) => {
      const place = path.join(folder, String(at));
      fs.mkdirSync(place);
      for (const each of there(outputs)) fs.cpSync(path.join(workspaceRoot, each), path.join(place, each), how);
    });
  } catch (error) {
    fs.rmSync(folder, { recursive: true, force: true }); // a full disk: nothing has been touched
    throw error;
  }
  return () => {
    others.forEach(({ outputs, whole }, at) => {
      if (whole) for (const each of there(outputs)) fs.rmSync(path.join(workspaceRoot, each), { recursive: true });
      fs.cpSync(path.join(folder, String(at)), workspaceRoot, { ...how, force: whole });
    });
    fs.rmSync(folder, { recursive: true, force: true });
  };
}

module.exports = { internals, introduce, link, restore };
