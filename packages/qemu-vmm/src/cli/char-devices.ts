import type { Chardev } from '../chardev/chardev.ts'
import { Mux } from '../chardev/mux.ts'
import { PtyChardev } from '../chardev/pty.ts'
import { RingbufChardev } from '../chardev/ringbuf.ts'
import { SwapChardev } from '../chardev/swap.ts'
import { VmmError } from '../errors.ts'
import type { CharacterControl, ChardevInfo } from '../monitor/command.ts'
import type { WiringOptions } from './char-open.ts'
import { CliError } from './cli-error.ts'
import type { ChardevSettings } from './settings.ts'

/** Who has a character device: monitors do not let it be another one. */
export type CharUse = 'device' | 'monitor'

interface Opened {
  readonly label: string
  readonly base: SwapChardev
  readonly mux: Mux | undefined
  readonly settings: ChardevSettings
  readonly users: { chardev: Chardev; use: CharUse }[]
}

/** Opens what settings describe. Rejects with `CliError`. */
export type CharOpener = (
  settings: ChardevSettings,
  label: string,
  options: WiringOptions,
) => Promise<Chardev>

/** The open character devices of the command, by their ids. */
export class CharDevices implements CharacterControl {
  readonly #opened = new Map<string, Opened>()
  readonly #open: CharOpener
  readonly #options: WiringOptions

  constructor(open: CharOpener, options: WiringOptions) {
    this.#open = open
    this.#options = options
  }

  /** Opens one; rejects with `CliError`. */
  async open(id: string, label: string, settings: ChardevSettings): Promise<Chardev> {
    const inner = await this.#open(settings, label, this.#options)
    const base = new SwapChardev(inner)
    const mux = settings.mux ? new Mux(base, this.#options) : undefined
    this.#opened.set(id, { label, base, mux, settings, users: [] })
    return inner
  }

  /** Gives one to a user. */
  use(id: string, use: CharUse): Chardev | undefined {
    const opened = this.#opened.get(id)
    if (opened === undefined) return undefined
    const chardev = opened.mux?.addPort() ?? opened.base
    opened.users.push({ chardev, use })
    return chardev
  }

  list(): ChardevInfo[] {
    return [...this.#opened.values()].flatMap(describe)
  }

  async add(id: string, settings: ChardevSettings): Promise<{ pty?: string }> {
    if (this.#find(id) !== undefined) {
      throw new VmmError('E_CHARDEV', `Chardev with id '${id}' already exists`, { fields: { id } })
    }
    const inner = await this.#tell(`Failed to add chardev '${id}': `, settings, () =>
      this.open(id, id, settings),
    )
    return inner instanceof PtyChardev ? { pty: inner.path } : {}
  }

  remove(id: string): void {
    const [key, opened] = this.#known(id, `Chardev '${id}' not found`)
    if (opened.users.length > 0 || opened.mux !== undefined) {
      throw new VmmError('E_CHARDEV', `Chardev '${id}' is busy`, { fields: { id } })
    }
    this.#opened.delete(key)
    opened.base.close()
  }

  async change(id: string, settings: ChardevSettings): Promise<{ pty?: string }> {
    const [key, opened] = this.#known(id, `Chardev '${id}' does not exist`)
    const refuse = (why: string): VmmError => new VmmError('E_CHARDEV', why, { fields: { id } })
    if (opened.mux !== undefined || settings.mux) {
      throw refuse('Mux device hotswap not supported yet')
    }
    if (opened.users.some(({ use }) => use === 'monitor')) {
      throw refuse('Chardev user does not support chardev hotswap')
    }
    const next = await this.#tell(
      '',
      settings,
      () => this.#open(settings, opened.label, this.#options),
      key,
    )
    opened.base.swap(next)
    this.#opened.set(key, { ...opened, settings })
    return next instanceof PtyChardev ? { pty: next.path } : {}
  }

  sendBreak(id: string): void {
    const [, { base, users }] = this.#known(id, `Chardev '${id}' not found`)
    for (const { chardev } of users.length > 0 ? users : [{ chardev: base }]) chardev.onBreak?.()
  }

  async drained(stallMs: number): Promise<void> {
    await Promise.all(Array.from(this.#opened.values(), ({ base }) => base.drained(stallMs)))
  }

  close(): void {
    for (const { base } of this.#opened.values()) base.close()
  }

  /** Opens while the machine runs; what is wrong is said without the option that was none. */
  async #tell<T>(
    prefix: string,
    settings: ChardevSettings,
    open: () => Promise<T>,
    replaced?: string,
  ): Promise<T> {
    const hasStdio = Array.from(this.#opened).some(
      ([key, other]) => other.settings.backend === 'stdio' && key !== replaced,
    )
    if (settings.backend === 'stdio' && hasStdio) {
      throw new VmmError('E_CHARDEV', `${prefix}cannot use stdio by multiple character devices`)
    }
    if (settings.socket?.wait === true) {
      throw new VmmError(
        'E_CHARDEV',
        `${prefix}'wait' would keep the machine waiting, which runs already; give wait=off`,
      )
    }
    try {
      return await open()
    } catch (error) {
      if (!(error instanceof CliError)) throw error
      const at = `${settings.at}: `
      const text = error.message.startsWith(at) ? error.message.slice(at.length) : error.message
      throw new VmmError('E_CHARDEV', prefix + text, { cause: error })
    }
  }

  /** By its id, or for one that an option implied by its label. */
  #find(name: string): [string, Opened] | undefined {
    return [...this.#opened].find(([id, { label }]) => id === name || label === name)
  }

  #known(name: string, otherwise: string): [string, Opened] {
    const found = this.#find(name)
    if (found !== undefined) return found
    throw new VmmError('E_CHARDEV', otherwise, { fields: { id: name } })
  }
}

/** The multiplexer has the name of the device, and the device below it another one. */
function describe({ label, base, mux, users }: Opened): ChardevInfo[] {
  const { filename, inner } = base
  const isOpen = users.length > 0
  const ring = inner instanceof RingbufChardev ? { ring: inner } : {}
  if (mux === undefined) return [{ label, filename, isOpen, ...ring }]
  return [
    { label, filename: 'mux', isOpen: true },
    { label: `${label}-base`, filename, isOpen: true, ...ring },
  ]
}
