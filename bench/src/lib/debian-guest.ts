// The whole Debian on a disk of its own, at root's shell: what programs of a distribution measure in it. Two of them, ours and the
// peer's, boot once and are measured in turn; who is not measured is stopped.
import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { type Socket, connect } from 'node:net'
import { join } from 'node:path'
import { progress } from './benchmark.ts'
import {
  GuestProcess,
  guestFiles,
  ownCommand,
  ownImageCommand,
  peerCommand,
} from './guest-process.ts'
import { ask } from './qmp.ts'

const loginPrompt = /guest login: $/
const rootPrompt = /root@guest:~# $/
const memoryMib = 1024

export type Side = 'own' | 'peer'

/** Makes an image with our command. */
export function createImage(...args: readonly string[]): void {
  const { status } = spawnSync(ownImageCommand, ['create', '-q', ...args], { stdio: 'inherit' })
  if (status !== 0) throw new Error(`qemu-img create ended with ${status}`)
}

/** A machine that boots Debian with one vCPU. */
export class DebianGuest {
  readonly #process: GuestProcess
  readonly #qmpPath: string
  #qmp: Socket | undefined

  private constructor(command: string, args: readonly string[], qmpPath: string) {
    this.#process = new GuestProcess(command, args)
    this.#qmpPath = qmpPath
  }

  /** Boots to the login prompt, with images and sockets of its own in `folder`. */
  static async boot(side: Side, folder: string, more: readonly string[]): Promise<DebianGuest> {
    const image = join(folder, `${side}.qcow2`)
    createImage('-f', 'qcow2', '-F', 'qcow2', '-b', guestFiles.debian, image)
    const qmpPath = join(folder, `${side}.qmp`)
    const machine = ['-accel', 'tcg', '-m', String(memoryMib), '-nographic']
    const disk = ['-L', guestFiles.firmware, '-drive', `file=${image},if=virtio`]
    const qmp = ['-qmp', `unix:${qmpPath},server=on,wait=off`]
    const command = side === 'own' ? ownCommand : peerCommand
    const guest = new DebianGuest(command, [...machine, ...disk, ...qmp, ...more], qmpPath)
    try {
      await guest.#process.expect(loginPrompt)
      progress(`${side}: Debian is up`)
      return guest
    } catch (error) {
      await guest.#process.stop()
      throw error
    }
  }

  /** Of the command. */
  get pid(): number {
    return this.#process.pid
  }

  get ramBytes(): number {
    return memoryMib << 20
  }

  async logIn(): Promise<void> {
    this.#process.type('root\n')
    await this.#process.expect(rootPrompt)
    // Editing of the line and colours are for people.
    await this.shell('bind "set enable-bracketed-paste off"; dmesg -n 1')
  }

  /** Runs a line in root's shell, and resolves to what it printed. */
  async shell(line: string, seconds = 300): Promise<string> {
    this.#process.type(`${line}\n`)
    const seen = (await this.#process.expect(rootPrompt, seconds)).replaceAll('\r', '')
    return seen.slice(seen.indexOf('\n') + 1, seen.lastIndexOf('\n') + 1)
  }

  /** Waits for the address that DHCP gives. */
  async online(): Promise<void> {
    await this.shell('until ip -4 address | grep -q 10.0.2.15; do sleep 0.2; done')
  }

  /** Stops the guest with its clock, so that it does not disturb. */
  async pause(): Promise<void> {
    await ask(await this.#monitor(), 'stop')
  }

  async resume(): Promise<void> {
    await ask(await this.#monitor(), 'cont')
  }

  async stop(): Promise<void> {
    this.#qmp?.destroy()
    await this.#process.stop()
  }

  async #monitor(): Promise<Socket> {
    if (this.#qmp !== undefined) return this.#qmp
    const socket = connect(this.#qmpPath).setEncoding('utf8')
    this.#qmp = socket
    await once(socket, 'connect')
    await ask(socket, 'qmp_capabilities')
    return socket
  }
}

/** Guests of both sides of a comparison, of which one at a time runs. */
export class Guests {
  readonly #guests = new Map<Side, DebianGuest>()

  /** Boots one after the other. Each stops when it has come to the login prompt and `first` was done with it. */
  static async boot(
    folder: string,
    sides: readonly Side[],
    options: (side: Side) => readonly string[],
    first: (guest: DebianGuest, side: Side) => Promise<void>,
  ): Promise<Guests> {
    const guests = new Guests()
    try {
      for (const side of sides) {
        const guest = await DebianGuest.boot(side, folder, options(side))
        guests.#guests.set(side, guest)
        await first(guest, side)
        await guest.pause()
      }
      return guests
    } catch (error) {
      await guests.stop()
      throw error
    }
  }

  /** Lets one run, as long as `use` takes. */
  async turn<T>(side: Side, use: (guest: DebianGuest) => Promise<T>): Promise<T> {
    const guest = this.#guests.get(side)
    if (guest === undefined) throw new Error(`there is no guest of the side '${side}'`)
    await guest.resume()
    try {
      return await use(guest)
    } finally {
      await guest.pause()
    }
  }

  async stop(): Promise<void> {
    for (const guest of this.#guests.values()) await guest.stop()
  }
}
