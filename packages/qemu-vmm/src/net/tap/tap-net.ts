import { spawnSync } from 'node:child_process'
import { type FrameBatch, type LinkEnd, type LinkSide, MAX_FRAME_BYTES } from 'virtio'

import { VmmError } from '../../errors.ts'
import { type NativeTap, adoptTap, openTap } from '../../native/tap.ts'
import { CardSender } from '../socket/sender.ts'
import type { TapNetConfig } from './config.ts'

/** `ACCEPTS_…` of headers: partial checksums, and TCP in one piece, also with ECN. */
const ACCEPTS = 0b1111

/** Why an interface cannot be had, and what helps. */
const REMEDIES: Readonly<Record<string, string>> = {
  EPERM:
    'making or using it needs CAP_NET_ADMIN; as root, `ip tuntap add dev NAME mode tap user USER` gives one to a user',
  EACCES: 'this user may not open /dev/net/tun',
  ENOENT: 'the host has no /dev/net/tun; load the module tun',
  ENODEV: 'the host has no /dev/net/tun; load the module tun',
  EBUSY: 'another process has it',
  EINVAL: 'an interface of this name is no tap with one queue',
  EBADF: 'the process has no such descriptor',
  EPROTO: 'it is no tap interface with headers (IFF_VNET_HDR)',
}

/** A script that takes longer is ended. */
const SCRIPT_MS = 60_000

/** An interface, and what monitors show of it. */
export interface OpenTap {
  tap: NativeTap
  detail: string
  /** What is to be done before it is closed. */
  beforeClose?: (report: (message: string) => void) => void
}

/** An interface of the host's at the other end of a card's cable. */
export class TapNet implements LinkEnd {
  readonly accepts: number = ACCEPTS
  readonly maxFrame: number = MAX_FRAME_BYTES
  /** As monitors show it. */
  readonly detail: string
  readonly #id: string
  readonly #tap: NativeTap
  readonly #side: LinkSide
  readonly #sender: CardSender
  readonly #report: (message: string) => void
  readonly #beforeClose: OpenTap['beforeClose']
  #isOpen = true

  constructor(
    id: string,
    { tap, detail, beforeClose }: OpenTap,
    side: LinkSide,
    report: (message: string) => void,
  ) {
    this.#id = id
    this.#tap = tap
    this.#side = side
    this.#sender = new CardSender(side)
    this.#report = report
    this.#beforeClose = beforeClose
    this.detail = detail
    side.attach(this)
    this.peerChanged()
    this.#watch()
  }

  receive(batch: FrameBatch, from: number): number {
    if (!this.#isOpen) return batch.used
    const taken = this.#tap.write(batch.bytes, from, batch.used)
    if (taken < 0) this.#gone()
    // What the host does not take now is lost, as in its own queues: it does not say when it would.
    return batch.used
  }

  /** The card takes frames again. */
  resume(): void {
    if (this.#isOpen && this.#sender.flush()) this.#watch()
  }

  linkChanged(): void {}

  peerChanged(): void {
    if (!this.#isOpen) return
    try {
      this.#tap.setAccepts(this.#side.peerAccepts & ACCEPTS)
    } catch (error) {
      this.#report(`netdev ${this.#id}: ${(error as Error).message}`)
    }
  }

  close(): void {
    if (!this.#isOpen) return
    this.#isOpen = false
    this.#side.detach()
    this.#beforeClose?.(this.#report)
    this.#tap.close()
  }

  #watch(): void {
    this.#tap.watch(() => this.#read())
  }

  /** Takes what there is; while the card does not, the interface keeps it. */
  #read(): void {
    const { batch } = this.#sender
    for (let more = true; more && this.#isOpen;) {
      const result = this.#tap.read(batch.bytes, batch.used)
      if (result < 0) return this.#gone()
      more = (result & 1) === 1
      if (result >> 1 !== batch.used) batch.adopt(result >> 1)
      if (batch.used > 0 && !this.#sender.flush()) {
        if (this.#isOpen) this.#tap.unwatch()
        return
      }
    }
  }

  #gone(): void {
    if (!this.#isOpen) return
    this.#isOpen = false
    this.#tap.close()
    this.#report(`netdev ${this.#id}: the interface is gone`)
  }
}

/**
 * Attaches to the interface that a description names, or makes it, or takes one that is open; then runs the script for it.
 * @throws VmmError `E_NETDEV` that says which right is missing, or what the script ended with; `E_NO_ADDON`
 */
export function openInterface(config: TapNetConfig): OpenTap {
  const { fd, script, downscript } = config
  if (fd !== undefined) return { tap: opened(config, () => adoptTap(fd)), detail: `fd=${fd}` }
  const tap = opened(config, () => openTap(config.ifname ?? ''))
  try {
    if (script !== undefined) runScript(script, tap.name)
  } catch (error) {
    tap.close()
    throw error
  }
  const { name } = tap
  return {
    tap,
    detail: `ifname=${name},script=${script ?? 'no'},downscript=${downscript ?? 'no'}`,
    ...(downscript !== undefined && {
      beforeClose: (report) => lastScript(downscript, name, report),
    }),
  }
}

function opened({ ifname, fd }: TapNetConfig, open: () => NativeTap): NativeTap {
  try {
    return open()
  } catch (error) {
    if (error instanceof VmmError) throw error
    const code = String((error as NodeJS.ErrnoException).code)
    const named = ifname === undefined ? 'a tap interface' : `the tap interface '${ifname}'`
    const what = fd === undefined ? named : `the tap interface at fd=${fd}`
    const remedy = REMEDIES[code] ?? (error as Error).message
    throw new VmmError('E_NETDEV', `could not configure ${what}: ${code}: ${remedy}`, {
      fields: { ifname: ifname ?? '', errno: code },
      cause: error,
    })
  }
}

/** Waits for a script, as QEMU does: the interface is of no use before. */
function runScript(path: string, ifname: string): void {
  const { status, signal, error } = spawnSync(path, [ifname], {
    stdio: ['ignore', 'inherit', 'inherit'],
    timeout: SCRIPT_MS,
  })
  if (status === 0) return
  const how = error?.message ?? (signal === null ? `status ${status}` : `signal ${signal}`)
  throw new VmmError(
    'E_NETDEV',
    `network script ${path} failed with ${how}; 'script=no' and 'downscript=no' run none`,
    { fields: { ifname, path } },
  )
}

function lastScript(path: string, ifname: string, report: (message: string) => void): void {
  try {
    runScript(path, ifname)
  } catch (error) {
    report((error as Error).message)
  }
}
