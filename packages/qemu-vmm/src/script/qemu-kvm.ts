// The first module of the command. It loads next to nothing, so that the thread of the devices starts, and loads its
// own code, while this one still loads what reads the options.
import { setFlagsFromString } from 'node:v8'

import type { run } from '../cli/main.ts'
import { startWorker } from '../machine/host/device-worker.ts'
import { loadScript } from './load-script.ts'

/**
 * How many bytes of a function's bytecode V8 executes before it thinks of optimizing it: 32 times as many as by default. The
 * thread that optimizes takes a processor from vCPUs, just while firmware or a kernel starts; what matters in the long run reaches
 * this within some 20 ms of its own time.
 */
const OPTIMIZED_AFTER_BYTES = 32 * 67_584

setFlagsFromString(`--interrupt-budget=${OPTIMIZED_AFTER_BYTES}`)

/** Options with which no machine is made, or not by this process. Where one is made all the same its thread starts later. */
const PRINTS = /^--?(h|help|version|daemonize)$|(^|[,=])(help|\?)$/

/** A kernel is started without firmware, whose devices' code then is not needed. */
const KERNEL = /^--?kernel$/

const argv = process.argv.slice(2)
const starts = argv.some((argument) => KERNEL.test(argument)) ? 'kernel' : 'firmware'
const worker = argv.some((argument) => PRINTS.test(argument)) ? undefined : startWorker(starts)
const { exports } = loadScript(__dirname, 'qemu-kvm')
void (exports as { run: typeof run }).run(argv, worker)
