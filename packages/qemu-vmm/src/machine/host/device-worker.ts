import { Worker } from 'node:worker_threads'

import type { WorkerSetup } from './protocol.ts'

/** Two halves of 1 MiB between which what lives is moved, and 1 MiB for what is large. */
const YOUNG_MIB = 3
/** All its modules in one file, quick to load. */
const SCRIPT = '../scripts/worker.cjs'
/** The modules one by one, which are those that the modules of a user's own devices see. */
const MODULE = '../bundle/worker.js'

/** What the machine starts with: firmware talks to devices that kernels never see, so that other code is worth keeping. */
export type Starts = 'firmware' | 'kernel'

/** What a thread is told when it starts. */
export interface WorkerData {
  readonly starts: Starts
}

/** One that was started and has nothing to do yet. */
let spare: Worker | undefined

/**
 * Starts the thread of a machine that is about to be made: it loads its modules while this thread still finds out what
 * the machine is to be. It does not keep the process alive.
 */
export function prepareWorker(starts: Starts): void {
  // Among the sources there is no module that a thread could load.
  if (spare !== undefined || import.meta.url.endsWith('.ts')) return
  adoptWorker(startWorker(starts))
}

/** Keeps a thread for the machine that is about to be made. */
export function adoptWorker(worker: Worker): void {
  spare = worker
  worker.unref()
}

/** A thread that makes the machine of `setup`. */
export function takeWorker(setup: WorkerSetup): Worker {
  const starts = setup.config.kernel === undefined ? 'firmware' : 'kernel'
  const worker =
    setup.devices.length > 0 ? startWorker(starts, MODULE) : (spare ?? startWorker(starts))
  if (worker === spare) spare = undefined
  worker.ref()
  worker.postMessage(setup)
  return worker
}

/** Starts a thread that waits for the setup of its machine. */
export function startWorker(starts: Starts, entry: string = SCRIPT): Worker {
  const workerData: WorkerData = { starts }
  // The flags of this process are for its own code: a loader among them may not work in threads.
  return new Worker(new URL(entry, import.meta.url), {
    execArgv: [],
    workerData,
    // Devices allocate little that lives: a young generation of 16 MiB would only fill before it is looked through.
    resourceLimits: { maxYoungGenerationSizeMb: YOUNG_MIB },
    name: 'qemu-vmm devices',
  })
}
