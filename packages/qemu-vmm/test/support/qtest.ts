// The QEMU that is installed, as something to compare devices with: its test interface reads and writes ports
// and memory, and moves time.
import { spawn, spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { createInterface } from 'node:readline'

const PEER = 'qemu-system-x86_64'
const VERSION = /version 7\.2/

/** Whether QEMU 7.2 is here, the one that this project follows. */
export const hasPeer: boolean = VERSION.test(
  spawnSync(PEER, ['--version'], { encoding: 'utf8' }).stdout ?? '',
)

/** A machine of QEMU's that does not run. */
export interface QtestPeer {
  /** One command of the test protocol; its answer, without OK. */
  ask(line: string): Promise<string>
  close(): void
}

export function startPeer(...args: string[]): QtestPeer {
  return start('-S', ...args)
}

/** One that runs, as networks carry frames only then; `firmware` is what {@link haltingFirmware} wrote. */
export function startIdlePeer(firmware: string, ...args: string[]): QtestPeer {
  return start('-bios', firmware, ...args)
}

/** Writes firmware that does nothing, so that the machine is left alone. */
export function haltingFirmware(path: string): void {
  const image = new Uint8Array(1 << 16)
  // At the reset vector: cli; hlt; jmp to the hlt.
  image.set([0xfa, 0xf4, 0xeb, 0xfd], image.length - 16)
  writeFileSync(path, image)
}

function start(...args: string[]): QtestPeer {
  const always = ['-nodefaults', '-display', 'none', '-qtest', 'stdio']
  const peer = spawn(PEER, [...always, ...args], { stdio: ['pipe', 'pipe', 'ignore'] })
  const lines = createInterface({ input: peer.stdout })[Symbol.asyncIterator]()
  return {
    async ask(line) {
      peer.stdin.write(`${line}\n`)
      for (;;) {
        const { value, done } = await lines.next()
        if (done === true) throw new Error(`${PEER} ended at ${line}`)
        if (value.startsWith('OK')) return value.slice(3)
        if (value.startsWith('FAIL') || value.startsWith('ERR')) throw new Error(value)
      }
    },
    close: () => void peer.kill(),
  }
}
