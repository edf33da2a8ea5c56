import { oneOf } from './scalars.ts'
import type { AttributeSpec, ChildSpec, ElementSpec, Occurrence, Scalar } from './types.ts'

/** An attribute's type, with how it occurs if that is unusual. */
export type AttributeEntry = Scalar | (Occurrence & { readonly type: Scalar })

/** What an element may have besides attributes and children. */
export interface ElementOptions {
  text?: Scalar
  typeName?: string
  keepEmpty?: boolean
}

/** Describes an element; attributes and children come in the order in which libvirt writes them. */
export function element(
  name: string,
  doc: string,
  attributes: Readonly<Record<string, AttributeEntry>>,
  children: readonly ChildSpec[] = [],
  options: ElementOptions = {},
): ElementSpec {
  return { name, doc, attributes: attributeSpecs(attributes), children, ...options }
}

/** Describes an element whose attributes depend on the value of one of them, `type`. */
export function elementByType(
  name: string,
  doc: string,
  cases: Readonly<Record<string, Readonly<Record<string, AttributeEntry>>>>,
  options: ElementOptions = {},
): ElementSpec {
  const specs = Object.entries(cases).map(
    ([type, attributes]) => [type, attributeSpecs(attributes)] as const,
  )
  const type = required(oneOf(...Object.keys(cases)))
  return { ...element(name, doc, { type }, [], options), cases: Object.fromEntries(specs) }
}

function attributeSpecs(attributes: Readonly<Record<string, AttributeEntry>>): AttributeSpec[] {
  return Object.entries(attributes).map(([name, entry]) => {
    const rest = 'type' in entry ? entry : { type: entry }
    return { ...rest, name, key: rest.as ?? camelCase(name) }
  })
}

/** The property that has an attribute or element: `error_policy` is `errorPolicy`. */
export function camelCase(name: string): string {
  return name
    .slice(name.indexOf(':') + 1)
    .replaceAll(/[_-]+(.)/g, (_, letter: string) => letter.toUpperCase())
}

/** A child that may come once. */
export function one(spec: ElementSpec, options: { as?: string; live?: true } = {}): ChildSpec {
  const { as = camelCase(spec.name), ...rest } = options
  return { kind: 'one', key: as, element: spec, ...rest }
}

/** A child that may come again and again, as an array. */
export function many(spec: ElementSpec, as: string): ChildSpec {
  return { kind: 'many', key: as, element: spec }
}

/** A child that is there or is not. */
export function flag(name: string, doc: string, as: string = camelCase(name)): ChildSpec {
  return { kind: 'flag', key: as, name, doc }
}

/** A child of text alone. */
export function text(
  name: string,
  doc: string,
  type: Scalar,
  { as = camelCase(name), ...options }: Occurrence = {},
): ChildSpec {
  return { kind: 'text', key: as, name, doc, type, ...options }
}

/** A child that is kept as it is. */
export function raw(
  name: string,
  doc: string,
  { as = camelCase(name), verbatim = false }: { as?: string; verbatim?: boolean } = {},
): ChildSpec {
  return { kind: 'raw', key: as, name, doc, verbatim }
}

/** Must be there. */
export function required(
  type: Scalar,
  options: Occurrence = {},
): Occurrence & {
  type: Scalar
} {
  return { type, required: true, ...options }
}

/** Not kept when it has the value that it would have anyway. */
export function optional(
  type: Scalar,
  absent: string | number | boolean,
): Occurrence & {
  type: Scalar
} {
  return { type, absent }
}

/** Under another name, because two things in the element have the same. */
export function renamed(type: Scalar, as: string): Occurrence & { type: Scalar } {
  return { type, as }
}

/** Only in the description of a running domain. */
export function live(type: Scalar): Occurrence & { type: Scalar } {
  return { type, live: true }
}
