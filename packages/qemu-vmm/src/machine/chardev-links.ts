import type { SerialBackend } from '../chipset/serial-port.ts'
import { VmmError } from '../errors.ts'
import type { MachineConfig } from './config.ts'

/** Hands out the character devices of a configuration, each once. */
export class ChardevLinks {
  readonly #chardevs: Readonly<Record<string, SerialBackend>>
  readonly #owners = new Map<string, string>()

  constructor(config: Pick<MachineConfig, 'chardevs'>) {
    this.#chardevs = config.chardevs ?? {}
  }

  /** Throws `E_DEVICE_OPTION` when there is none of this name, or it is in use. */
  take(id: string, owner: string): SerialBackend {
    const chardev = Object.hasOwn(this.#chardevs, id) ? this.#chardevs[id] : undefined
    const taken = this.#owners.get(id)
    if (chardev === undefined || taken !== undefined) {
      const known = Object.keys(this.#chardevs).join(', ') || 'none'
      const problem =
        chardev === undefined
          ? `Property '${owner}.chardev' can't find value '${id}' (character devices: ${known})`
          : `Property '${owner}.chardev' can't take value '${id}', it's in use by ${taken}`
      throw new VmmError('E_DEVICE_OPTION', problem, { fields: { device: owner, chardev: id } })
    }
    this.#owners.set(id, owner)
    return chardev
  }

  /** Its device is gone: another may have it. */
  release(id: string): void {
    this.#owners.delete(id)
  }
}
