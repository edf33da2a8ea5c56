// The first module of the thread of the devices.
import { loadScript } from './load-script.ts'

loadScript(__dirname, 'worker')
