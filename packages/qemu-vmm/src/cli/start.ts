// The first module of the command. It loads next to nothing, so that the thread of the devices starts, and loads its
// own modules, while this one still loads those that read the options.
import { prepareWorker } from '../machine/host/device-worker.ts'

/** Options with which no machine is made, or not by this process. Where one is made all the same its thread starts later. */
const PRINTS = /^--?(h|help|version|daemonize)$|(^|[,=])(help|\?)$/

if (!process.argv.slice(2).some((argument) => PRINTS.test(argument))) prepareWorker()
await import('./main.ts')
