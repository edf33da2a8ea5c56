import { Table } from '../acpi/tables.ts'

/** A structure under construction (DSP0134, 6.1): fields, and the strings behind them that some fields number. */
export class Structure extends Table {
  readonly #strings: string[] = []

  /** @param length of the fields, with the header */
  constructor(type: number, handle: number, length: number) {
    super(length)
    this.u8(0, type).u8(1, length).u16(2, handle)
  }

  /** Puts a string behind the fields, and its number into one; 0 where there is none. */
  string(at: number, value: string | undefined): this {
    if (value === undefined || value === '') return this.u8(at, 0)
    this.#strings.push(value)
    return this.u8(at, this.#strings.length)
  }

  /** Strings that no field numbers. */
  addStrings(values: readonly string[]): this {
    this.#strings.push(...values)
    return this
  }

  /** Fields and strings. Bytes of text are UTF-8. */
  encoded(): Uint8Array {
    const strings = this.#strings.map((value) => `${value}\0`).join('') || '\0'
    return Buffer.concat([this.bytes, Buffer.from(`${strings}\0`)])
  }
}
