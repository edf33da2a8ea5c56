// Two machines whose guests do not run, ours and that of the QEMU that is installed, and what they answer to QMP.
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'

import { openChardevs } from '../../src/cli/char-open.ts'
import { planChardevs } from '../../src/cli/char-plan.ts'
import { machineConfig } from '../../src/cli/machine-config.ts'
import { parseCommand } from '../../src/cli/parse.ts'
import { VirtualMachine } from '../../src/machine/virtual-machine.ts'
import { runMonitorLine } from '../../src/monitor/commands.ts'
import { BlockNodes } from '../../src/monitor/qmp/block-nodes.ts'
import { QmpMonitor } from '../../src/monitor/qmp/session.ts'
import { FakeDevice } from '../fixtures/fake-device.ts'

const PEER = 'qemu-system-x86_64'
const LIMIT_MS = 60_000
const MACHINE = ['-S', '-display', 'none', '-m', '64'] as const

/** What a command is answered with, and the events before that. */
export interface QmpReply {
  return?: unknown
  error?: { class: string; desc: string }
  events: { event: string; data?: unknown }[]
}

export interface Command {
  execute: string
  arguments?: unknown
}

/** Takes messages; true when one of them is an answer. */
class Replies {
  readonly list: QmpReply[] = []
  #events: QmpReply['events'] = []

  take(line: string): boolean {
    const { QMP, timestamp: _timestamp, ...message } = JSON.parse(line)
    if (QMP !== undefined) return false
    if (message.event === undefined) {
      this.list.push({ ...message, events: this.#events })
      this.#events = []
      return true
    }
    this.#events.push(message)
    return false
  }
}

/** Runs commands in order in ours; `cwd` is where files are. */
export async function runOurs(
  cwd: string,
  args: readonly string[],
  commands: readonly Command[],
): Promise<QmpReply[]> {
  const before = process.cwd()
  process.chdir(cwd)
  const command = parseCommand([...MACHINE, ...args])
  if (command.kind === 'print') throw new Error(command.text)
  const { settings } = command
  const ignore = (): void => {}
  const wiring = await openChardevs(planChardevs(settings), {
    escapeCode: 1,
    onQuit: ignore,
    report: ignore,
    inform: ignore,
    announce: ignore,
  })
  const config = machineConfig(settings, wiring, ignore)
  const vm = new VirtualMachine({ ...config, host: 'inline', accel: 'tcg' })
  try {
    await vm.start()
    const device = new FakeDevice()
    const context = {
      machine: vm,
      name: undefined,
      uuid: undefined,
      characters: wiring.characters,
      quit() {},
    }
    const human = (line: string): Promise<string> =>
      runMonitorLine({ ...context, history: () => [] }, line)
    const facts = {
      type: settings.machine,
      smp: settings.smp,
      cpuModel: settings.cpu.model,
      memory: config.memory,
    }
    const monitor = new QmpMonitor(device, {
      ...context,
      facts,
      nodes: new BlockNodes(vm, settings.fileNodes),
      migration: { events: false },
      human,
      wallMs: () => 0,
    })
    const replies = new Replies()
    for (const each of [{ execute: 'qmp_capabilities' }, ...commands]) {
      device.type(`${JSON.stringify(each)}\n`)
      for (let isDone = false; !isDone;) {
        await new Promise((resolve) => setImmediate(resolve))
        for (const line of device.take().split('\r\n')) {
          if (line !== '' && replies.take(line)) isDone = true
        }
      }
    }
    monitor.close()
    return replies.list.slice(1)
  } finally {
    await vm.quit()
    wiring.close()
    process.chdir(before)
  }
}

/** The same in QEMU. */
export async function runTheirs(
  cwd: string,
  args: readonly string[],
  commands: readonly Command[],
): Promise<QmpReply[]> {
  const child = spawn(PEER, [...MACHINE, '-qmp', 'stdio', ...args], {
    cwd,
    stdio: ['pipe', 'pipe', 'pipe'],
    timeout: LIMIT_MS,
  })
  let errors = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors += text
  })
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const replies = new Replies()
  for (const each of [{ execute: 'qmp_capabilities' }, ...commands, { execute: 'quit' }]) {
    child.stdin.write(`${JSON.stringify(each)}\n`)
    for (;;) {
      const { value, done } = await lines.next()
      if (done === true) throw new Error(`${PEER} ended at ${each.execute}: ${errors}`)
      if (replies.take(value)) break
    }
  }
  return replies.list.slice(1, -1)
}
