/** Encoded AML: a term, an argument or a list of terms (ACPI 6.5, chapter 20). */
export type Aml = readonly number[]

const SEGMENT_BYTES = 4

function ascii(text: string): number[] {
  return Array.from(text, (c) => c.charCodeAt(0))
}

/** Paths that were encoded: a table has a few hundred names, thousands of times. */
const paths = new Map<string, Aml>()

/** A name path such as `\_SB.PCI0`, `^LNKA` or `_HID`; short segments are padded with `_`. */
export function path(name: string): Aml {
  let encoded = paths.get(name)
  if (encoded === undefined) {
    encoded = encodePath(name)
    paths.set(name, encoded)
  }
  return encoded
}

function encodePath(name: string): Aml {
  const prefix = /^(\\|\^+)?/.exec(name)?.[0] ?? ''
  const rest = name.slice(prefix.length)
  const segments = rest === '' ? [] : rest.split('.')
  const encoded = segments.flatMap((segment) => {
    if (!/^[A-Z_][A-Z0-9_]{0,3}$/.test(segment)) {
      throw new RangeError(`'${segment}' is not an ACPI name segment`)
    }
    return ascii(segment.padEnd(SEGMENT_BYTES, '_'))
  })
  const count =
    segments.length === 0
      ? [0x00]
      : segments.length === 1
        ? []
        : segments.length === 2
          ? [0x2e]
          : [0x2f, segments.length]
  return [...ascii(prefix), ...count, ...encoded]
}

/** An integer in its shortest form. */
export function int(value: number): Aml {
  if (value === 0) return [0x00]
  if (value === 1) return [0x01]
  if (value <= 0xff) return [0x0a, value]
  if (value <= 0xffff) return [0x0b, ...little(value, 2)]
  if (value <= 0xffff_ffff) return [0x0c, ...little(value, 4)]
  return [0x0e, ...little(value, 8)]
}

export function string(text: string): Aml {
  return [0x0d, ...ascii(text), 0]
}

/** Little-endian bytes of a number up to 2^53. */
export function little(value: number, size: number): number[] {
  const result: number[] = []
  let rest = value
  for (let i = 0; i < size; i++) {
    result.push(rest % 256)
    rest = Math.floor(rest / 256)
  }
  return result
}

/** A seven-character EISA id such as `PNP0A03` as the compressed integer. */
export function eisaId(id: string): Aml {
  const letter = (i: number): number => id.charCodeAt(i) - 0x40
  const product = Number.parseInt(id.slice(3), 16)
  const vendor = (letter(0) << 10) | (letter(1) << 5) | letter(2)
  return [0x0c, vendor >> 8, vendor & 0xff, product >> 8, product & 0xff]
}

/** `PkgLength` followed by the content it counts, itself included. */
export function sized(content: Aml): Aml {
  const { length } = content
  if (length + 1 < 0x40) return [length + 1, ...content]
  let extra = 1
  while (length + 1 + extra >= 2 ** (4 + 8 * extra)) extra++
  const total = length + 1 + extra
  return [(extra << 6) | (total & 0x0f), ...little(Math.floor(total / 16), extra), ...content]
}

function list(terms: readonly Aml[]): number[] {
  return terms.flat()
}

export function scope(name: string, ...terms: Aml[]): Aml {
  return [0x10, ...sized([...path(name), ...list(terms)])]
}

export function device(name: string, ...terms: Aml[]): Aml {
  return [0x5b, 0x82, ...sized([...path(name), ...list(terms)])]
}

export function name(id: string, value: Aml): Aml {
  return [0x08, ...path(id), ...value]
}

export function buffer(bytes: Aml): Aml {
  return [0x11, ...sized([...int(bytes.length), ...bytes])]
}

/** A package of at most 255 elements. */
export function pkg(...elements: Aml[]): Aml {
  return [0x12, ...sized([elements.length, ...list(elements)])]
}

export function method(id: string, args: number, serialized: boolean, ...terms: Aml[]): Aml {
  return [0x14, ...sized([...path(id), args | (serialized ? 0x08 : 0), ...list(terms)])]
}

export function arg(index: number): Aml {
  return [0x68 + index]
}

export function ret(value: Aml): Aml {
  return [0xa4, ...value]
}

export function store(value: Aml, target: Aml): Aml {
  return [0x70, ...value, ...target]
}

/** `And`; without a target the result is only the term's value. */
export function and(a: Aml, b: Aml, target: Aml = [0x00]): Aml {
  return [0x7b, ...a, ...b, ...target]
}

export function or(a: Aml, b: Aml, target: Aml = [0x00]): Aml {
  return [0x7d, ...a, ...b, ...target]
}

export function less(a: Aml, b: Aml): Aml {
  return [0x95, ...a, ...b]
}

export function ifTrue(predicate: Aml, ...terms: Aml[]): Aml {
  return [0xa0, ...sized([...predicate, ...list(terms)])]
}

export function ifElse(predicate: Aml, yes: readonly Aml[], no: readonly Aml[]): Aml {
  return [...ifTrue(predicate, ...yes), 0xa1, ...sized(list(no))]
}

export function equal(a: Aml, b: Aml): Aml {
  return [0x93, ...a, ...b]
}

export function not(value: Aml): Aml {
  return [0x92, ...value]
}

/** `LAnd` */
export function both(a: Aml, b: Aml): Aml {
  return [0x90, ...a, ...b]
}

/** A place in a package, to store to. */
export function element(source: Aml, index: number): Aml {
  return [0x88, ...source, ...int(index), 0x00]
}

export function local(index: number): Aml {
  return [0x60 + index]
}

/** A UUID as a buffer, in the order of `ToUUID` (ACPI 6.5, 19.6.143). */
export function uuid(text: string): Aml {
  const hex = Buffer.from(text.replaceAll('-', ''), 'hex')
  const order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15]
  return buffer(order.map((at) => hex[at] ?? 0))
}

export function createDwordField(source: Aml, byteIndex: number, id: string): Aml {
  return [0x8a, ...source, ...int(byteIndex), ...path(id)]
}

/** Region spaces of `OperationRegion`. */
export const REGION_SYSTEM_IO = 1
export const REGION_PCI_CONFIG = 2

export function operationRegion(id: string, space: number, offset: number, length: number): Aml {
  return [0x5b, 0x80, ...path(id), space, ...int(offset), ...int(length)]
}

/** A field list with byte access, no lock, and preserved neighbours. Widths are in bits. */
export function byteFields(region: string, fields: readonly (readonly [string, number])[]): Aml {
  const units = fields.flatMap(([id, bits]) => {
    if (bits >= 0x40) throw new RangeError(`the field ${id} is wider than 63 bits`)
    return [...path(id), bits]
  })
  return [0x5b, 0x81, ...sized([...path(region), 0x01, ...units])]
}
