import { keepVerbatim } from '../../xml/print.ts'
import { element, text } from '../../xml/node.ts'
import type { XmlAttribute, XmlElement, XmlNode } from '../../xml/node.ts'
import { attributesFor } from './dsl.ts'
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
  const node = element(spec.name)
  for (const { name, key, type, secret, live } of attributesFor(spec, model['type'])) {
    const value = model[key]
    if (value === undefined || (secret && !options.secure) || (live && !options.live)) continue
    node.attributes.push({ name, value: type.format(value as ScalarValue) })
  }
  const extra = (model['unknownAttributes'] ?? []) as XmlAttribute[]
  node.attributes.push(...extra)
  if (spec.text !== undefined && model['value'] !== undefined) {
    const value = spec.text.format(model['value'] as ScalarValue)
    if (value !== '') node.children.push(text(value))
  }
  for (const child of spec.children) {
    const value = model[child.key]
    if (value !== undefined) node.children.push(...writeChild(value, child, options))
  }
  const unknown = (model['unknown'] ?? []) as XmlElement[]
  node.children.push(...unknown.map((child) => keepVerbatim(child)))
  return node
}

function writeChild(
  value: NonNullable<Model[string]>,
  spec: ChildSpec,
  options: WriteOptions,
): XmlNode[] {
  switch (spec.kind) {
    case 'one':
    case 'many': {
      if (spec.live && !options.live) return []
      const models = (Array.isArray(value) ? value : [value]) as Model[]
      return models
        .map((model) => writeElement(model, spec.element, options))
        .filter((node) => spec.element.keepEmpty || !isEmpty(node))
    }
    case 'flag':
      return value === true ? [element(spec.name)] : []
    case 'text':
      if ((spec.secret && !options.secure) || (spec.live && !options.live)) return []
      return [element(spec.name, {}, [text(spec.type.format(value as ScalarValue))])]
    case 'raw': {
      const kept = value as XmlElement
      if (!spec.verbatim) return isEmpty(kept) ? [] : [kept]
      // Text between the elements has no meaning here, and would put all on one line.
      const children = kept.children.filter(({ kind }) => kind !== 'text')
      return [keepVerbatim({ ...kept, children })]
    }
  }
}

function isEmpty({ attributes, children }: XmlElement): boolean {
  return attributes.length === 0 && children.length === 0
}
