import type { ConfigSpace } from './config-space.ts'
import type { PciFunction } from './function.ts'
import type { SendMessage } from './msix.ts'

/** PCI 3.0, 6.8.1: control, address, data; one message, 64-bit addresses, no mask. */
const CAP_ID_MSI = 0x05
const CAP_BYTES = 14
const CONTROL = 2
const ADDRESS = 4
const DATA = 12
const CONTROL_ENABLE = 0x0001
const CONTROL_64_BIT = 0x0080

/**
 * The MSI capability of a function that has one message. A message that the machine holds back while
 * it stands leaves when `flush` is called.
 */
export class Msi {
  readonly #config: ConfigSpace
  readonly #at: number
  readonly #send: SendMessage
  #pending = false

  constructor(fn: PciFunction, send: SendMessage, place?: number) {
    this.#config = fn.config
    this.#send = send
    const bytes = new Uint8Array(CAP_BYTES)
    bytes[CONTROL] = CONTROL_64_BIT
    this.#at = fn.config.addCapability(CAP_ID_MSI, bytes, place)
    fn.config.allowWrites(this.#at + CONTROL, 2, CONTROL_ENABLE)
    fn.config.allowWrites(this.#at + ADDRESS, 4, 0xffff_fffc)
    fn.config.allowWrites(this.#at + ADDRESS + 4, 4, 0xffff_ffff)
    fn.config.allowWrites(this.#at + DATA, 2, 0xffff)
    fn.config.seal()
  }

  /** Whether the guest uses it, so that the pin must stay quiet. */
  get enabled(): boolean {
    return (this.#config.get16(this.#at + CONTROL) & CONTROL_ENABLE) !== 0
  }

  /** Sends the message, or keeps it until the machine goes on. */
  trigger(): void {
    if (!this.enabled) return
    const high = this.#config.get32(this.#at + ADDRESS + 4)
    const address = high * 0x1_0000_0000 + this.#config.get32(this.#at + ADDRESS)
    this.#pending = !this.#send(address, this.#config.get16(this.#at + DATA))
  }

  flush(): void {
    if (this.#pending) this.trigger()
  }

  reset(): void {
    this.#pending = false
  }

  save(): boolean {
    return this.#pending
  }

  load(pending: boolean): void {
    this.#pending = pending
  }
}
