'use strict';
/*
 * Preloaded into the program by which nx is started in a workspace, to learn what NODE_PATH it comes with; nx itself is not loaded.
 */
require('node:fs').writeSync(1, process.env.NODE_PATH ?? '');
process.exit(0);
