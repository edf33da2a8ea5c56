// The first module of the command. It loads next to nothing, so that the thread of the devices starts, and loads its
// own code, while this one still loads what reads the options.
import type { run } from '../cli/main.ts'
import { startWorker } from '../machine/host/device-worker.ts'
import { loadScript } from './load-script.ts'

/** Options with which no machine is made, or not by this process. Where one is made all the same its thread starts later. */
const PRINTS = /^--?(h|help|version|daemonize)$|(^|[,=])(help|\?)$/

/** A kernel is started without firmware, whose devices' code then is not needed. */
const KERNEL = /^--?kernel$/

const argv = process.argv.slice(2)
const starts = argv.some((argument) => KERNEL.test(argument)) ? 'kernel' : 'firmware'
const worker = argv.some((argument) => PRINTS.test(argument)) ? undefined : startWorker(starts)
const { exports } = loadScript(__dirname, 'qemu-kvm')
void (exports as { run: typeof run }).run(argv, worker)
