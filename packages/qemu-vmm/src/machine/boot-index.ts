import { VmmError } from '../errors.ts'

/** The order in which firmware tries single devices: their `bootindex` properties. */
export class BootIndex {
  readonly #paths = new Map<number, string>()
  readonly #first: string[] = []

  /**
   * Adds a device by its Open Firmware path, such as `/pci@i0cf8/scsi@3/disk@0,0`.
   *
   * @throws VmmError `E_DEVICE_OPTION` for an index that another device has
   */
  add(index: number, path: string): void {
    const other = this.#paths.get(index)
    if (other !== undefined) {
      throw new VmmError(
        'E_DEVICE_OPTION',
        `The bootindex ${index} has already been used, by ${other}; give ${path} another`,
        { fields: { bootindex: index, owner: other } },
      )
    }
    this.#paths.set(index, path)
  }

  /** Adds what is tried before all that have an index. */
  addFirst(path: string): void {
    this.#first.push(path)
  }

  /** The contents of the `bootorder` file. `strict` ends it with a stop. */
  file(strict: boolean): Uint8Array {
    const indexed = [...this.#paths].toSorted(([a], [b]) => a - b).map(([, path]) => path)
    const ordered = [...this.#first, ...indexed]
    if (strict) ordered.push('HALT')
    return ordered.length === 0 ? new Uint8Array(0) : Buffer.from(`${ordered.join('\n')}\0`)
  }
}
