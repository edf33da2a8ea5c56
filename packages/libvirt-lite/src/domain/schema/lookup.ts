import type { AttributeSpec, ChildSpec, ElementSpec } from './types.ts'

/** What a schema says of an element, by the names that are looked for. */
interface Lookup {
  readonly attributes: Attributes
  readonly cases: ReadonlyMap<string, Attributes>
  /** By names in documents; those in a namespace are in {@link prefixed}. */
  readonly children: ReadonlyMap<string, ChildSpec>
  readonly prefixed: readonly ChildSpec[]
  readonly required: readonly ChildSpec[]
  /** By properties, with the place in the order in which they are written. */
  readonly order: ReadonlyMap<string, { readonly place: number; readonly spec: ChildSpec }>
}

/** Attributes of an element of one kind. */
export interface Attributes {
  readonly all: readonly AttributeSpec[]
  readonly byName: ReadonlyMap<string, AttributeSpec>
  readonly required: readonly AttributeSpec[]
}

const lookups = new WeakMap<ElementSpec, Lookup>()

/** Elements may have some fifty children, of which documents have a few: looking through all of them for each costs more than the rest. */
export function lookupOf(spec: ElementSpec): Lookup {
  const known = lookups.get(spec)
  if (known !== undefined) return known
  const named = spec.children.map((child) => [childName(child), child] as const)
  const cases = Object.entries(spec.cases ?? {}).map(
    ([type, more]) => [type, attributesOf([...spec.attributes, ...more])] as const,
  )
  const lookup: Lookup = {
    attributes: attributesOf(spec.attributes),
    cases: new Map(cases),
    children: new Map(named.filter(([name]) => !name.includes(':'))),
    prefixed: named.flatMap(([name, child]) => (name.includes(':') ? [child] : [])),
    required: spec.children.filter((child) => 'required' in child && child.required !== undefined),
    order: new Map(spec.children.map((child, place) => [child.key, { place, spec: child }])),
  }
  lookups.set(spec, lookup)
  return lookup
}

/** The attributes that an element may have, with those that it has by its type. */
export function attributesFor(spec: ElementSpec, type: unknown): Attributes {
  const { attributes, cases } = lookupOf(spec)
  return (typeof type === 'string' ? cases.get(type) : undefined) ?? attributes
}

function attributesOf(all: readonly AttributeSpec[]): Attributes {
  return {
    all,
    byName: new Map(all.map((attribute) => [attribute.name, attribute])),
    required: all.filter(({ required }) => required !== undefined),
  }
}

/** The name of a child, as written in a document. */
export function childName(spec: ChildSpec): string {
  return 'element' in spec ? spec.element.name : spec.name
}
