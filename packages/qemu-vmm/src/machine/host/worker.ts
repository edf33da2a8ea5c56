import { parentPort } from 'node:worker_threads'

import { errorToData } from '../../errors.ts'
import { Machine } from '../machine.ts'
import { ConnectQuestions } from './connect-questions.ts'
import type { FromWorker, ToWorker, WorkerSetup } from './protocol.ts'
import { WorkerSerial } from './serial-link.ts'

// Entry point of the device worker: builds the machine of the first message and answers the calls of the other side.

if (parentPort === null) throw new Error('this module is the entry point of a worker')
const port = parentPort

function post(message: FromWorker, transfer: ArrayBuffer[] = []): void {
  port.postMessage(message, transfer)
}

function link(index: number): WorkerSerial {
  return new WorkerSerial(
    (data) => post({ type: 'serial-out', port: index, data }, [data.buffer as ArrayBuffer]),
    (bytes) => post({ type: 'serial-room', port: index, bytes }),
  )
}

port.once('message', begin)

function begin(setup: WorkerSetup): void {
  const serial = setup.serial.map((isConnected, index) => (isConnected ? link(index) : undefined))
  const chardevs = setup.chardevs.map((_, index) => link(serial.length + index))
  /** By the numbers that messages have. */
  const links = [...serial, ...chardevs]

  const questions = new ConnectQuestions((id, request) =>
    post({ type: 'connect-request', id, request }),
  )
  const netdevs = setup.config.netdevs?.map((netdev) =>
    setup.connectHooks.includes(netdev.id) ? { ...netdev, onConnect: questions.ask } : netdev,
  )

  const machine = Machine.create(
    {
      ...setup.config,
      ...(netdevs && { netdevs }),
      devices: setup.devices.map((href) => new URL(href)),
      serial,
      chardevs: Object.fromEntries(setup.chardevs.map((id, index) => [id, chardevs[index]!])),
    },
    {
      status: (status) => post({ type: 'status', status }),
      event: (event, detail) => post({ type: 'event', event, detail }),
      log: (message) => post({ type: 'log', message }),
      exited: ({ error, ...info }) =>
        post({
          type: 'exited',
          info,
          ...(error === undefined ? {} : { error: errorToData(error) }),
        }),
    },
  )

  async function call({ id, method, args }: ToWorker & { type: 'call' }): Promise<void> {
    try {
      const target = (await machine) as unknown as Record<string, (...a: unknown[]) => unknown>
      post({ type: 'result', id, value: await target[method]!(...args) })
    } catch (error) {
      post({ type: 'error', id, error: errorToData(error) })
    }
  }

  port.on('message', (message: ToWorker) => {
    switch (message.type) {
      case 'call':
        void call(message)
        break
      case 'serial-in':
        links[message.port]?.input(message.data)
        break
      case 'serial-break':
        links[message.port]?.onBreak?.()
        break
      case 'serial-credit':
        links[message.port]?.addCredit(message.bytes)
        break
      case 'connect-verdict':
        questions.answer(message.id, message.verdict)
        break
      default:
        break
    }
  })

  machine.then(
    () => post({ type: 'created' }),
    (error: unknown) => {
      post({ type: 'failed', error: errorToData(error) })
      port.close()
    },
  )
}
