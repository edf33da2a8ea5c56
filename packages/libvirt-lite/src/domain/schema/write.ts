import { keepVerbatim } from '../../xml/print.ts'
import { element, text } from '../../xml/node.ts'
import type { XmlAttribute, XmlElement, XmlNode } from '../../xml/node.ts'
import { attributesFor, lookupOf } from './lookup.ts'
import type { ChildSpec, ElementSpec, Model, ScalarValue } from './types.ts'

/** What of a definition is written. */
export interface WriteOptions {
  /** Passwords as well. */
  secure?: boolean
  /** What only a running domain has. */
  live?: boolean
}

/** Writes an object by the schema of its element. The schema gives the order. */
export function writeElement(
  model: Model,
  spec: ElementSpec,
  options: WriteOptions = {},
): XmlElement {
  const attributes: XmlAttribute[] = []
  const children: XmlNode[] = []
  for (const { name, key, type, secret, live } of attributesFor(spec, model['type']).all) {
    const value = model[key]
    if (value === undefined || (secret && !options.secure) || (live && !options.live)) continue
    attributes.push({ name, value: type.format(value as ScalarValue) })
  }
  const extra = model['unknownAttributes'] as XmlAttribute[] | undefined
  if (extra !== undefined) attributes.push(...extra)
  if (spec.text !== undefined && model['value'] !== undefined) {
    const value = spec.text.format(model['value'] as ScalarValue)
    if (value !== '') children.push(text(value))
  }
  if (spec.children.length > 0) {
    for (const child of childrenIn(model, spec)) writeChild(model, child, options, children)
  }
  const unknown = model['unknown'] as XmlElement[] | undefined
  if (unknown !== undefined) for (const child of unknown) children.push(keepVerbatim(child))
  return { kind: 'element', name: spec.name, attributes, children }
}

/** What of an element's children a model may have, in the order in which they are written. */
function childrenIn(model: Model, spec: ElementSpec): readonly ChildSpec[] {
  const { order } = lookupOf(spec)
  const there: { place: number; spec: ChildSpec }[] = []
  for (const key in model) {
    const child = order.get(key)
    if (child !== undefined) there.push(child)
  }
  return there.toSorted((a, b) => a.place - b.place).map(({ spec }) => spec)
}

/** Writes what a model has of a child behind what is there. */
function writeChild(
  model: Model,
  spec: ChildSpec,
  options: WriteOptions,
  written: XmlNode[],
): void {
  const value = model[spec.key]
  if (value === undefined) return
  switch (spec.kind) {
    case 'one':
    case 'many':
      if (spec.live && !options.live) return
      for (const item of (Array.isArray(value) ? value : [value]) as Model[]) {
        const node = writeElement(item, spec.element, options)
        if (spec.element.keepEmpty || !isEmpty(node)) written.push(node)
      }
      return
    case 'flag':
      if (value === true) written.push(element(spec.name))
      return
    case 'text':
      if ((spec.secret && !options.secure) || (spec.live && !options.live)) return
      written.push(element(spec.name, {}, [text(spec.type.format(value as ScalarValue))]))
      return
    case 'raw': {
      const kept = value as XmlElement
      if (!spec.verbatim) {
        if (!isEmpty(kept)) written.push(kept)
        return
      }
      // Text between the elements has no meaning here, and would put all on one line.
      const children = kept.children.filter(({ kind }) => kind !== 'text')
      written.push(keepVerbatim({ ...kept, children }))
    }
  }
}

function isEmpty({ attributes, children }: XmlElement): boolean {
  return attributes.length === 0 && children.length === 0
}
