import { connect } from 'node:net'
import type { Socket } from 'node:net'
import { Duplex } from 'node:stream'

/** What is kept of a console that nobody watches: some screens full. */
export const KEPT_BYTES: number = 64 * 1024

/**
 * The daemon's end of a guest's console. It is connected all the time: what the guest writes while nobody watches is kept, as
 * far as it is recent, for the next one who does.
 */
export class ConsoleTap {
  readonly #socket: Socket
  #kept: Buffer[] = []
  #length = 0
  #watcher: Duplex | undefined

  private constructor(socket: Socket) {
    this.#socket = socket
    socket.on('data', (chunk: Buffer) => this.#data(chunk))
    socket.on('error', () => socket.destroy())
    socket.on('close', () => this.#watcher?.push(null))
  }

  /** Connects to the socket of a character device. Rejects with the system's error. */
  static async open(path: string): Promise<ConsoleTap> {
    const socket = connect({ path })
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve)
      socket.once('error', reject)
    })
    return new ConsoleTap(socket)
  }

  /** What was kept, and then what comes; only one may watch at a time. */
  watch(): Duplex {
    const watcher: Duplex = new Duplex({
      read: () => void this.#socket.resume(),
      write: (chunk: Buffer, _encoding, done) => {
        // Of a guest that is gone nothing is wanted any more.
        if (this.#socket.destroyed) done()
        else this.#socket.write(chunk, () => done())
      },
      destroy: (error, done) => {
        if (this.#watcher === watcher) this.#watcher = undefined
        this.#socket.resume()
        done(error)
      },
    })
    this.#watcher = watcher
    for (const chunk of this.#kept.splice(0)) watcher.push(chunk)
    this.#length = 0
    if (this.#socket.destroyed) watcher.push(null)
    return watcher
  }

  close(): void {
    this.#socket.destroy()
  }

  #data(chunk: Buffer): void {
    if (this.#watcher !== undefined) {
      // Whoever reads slowly has the guest wait.
      if (!this.#watcher.push(chunk)) this.#socket.pause()
      return
    }
    this.#kept.push(chunk)
    this.#length += chunk.length
    while (this.#length > KEPT_BYTES) {
      const [first] = this.#kept as [Buffer]
      const over = this.#length - KEPT_BYTES
      if (first.length <= over) this.#kept.shift()
      // A copy: a part of it would keep all of it.
      else this.#kept[0] = Buffer.from(first.subarray(over))
      this.#length -= Math.min(over, first.length)
    }
  }
}
