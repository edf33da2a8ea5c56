// The first module of the thread of the devices.
import { workerData } from 'node:worker_threads'

import type { WorkerData } from '../machine/host/device-worker.ts'
import { loadScript } from './load-script.ts'

loadScript(__dirname, 'worker', { use: (workerData as WorkerData).starts })
