import { didYouMean, nearest } from '../../xml/suggest.ts'
import { XmlError, shorten } from '../../xml/errors.ts'
import { attributeOf, childElements, detach, namespaceOf, textOf } from '../../xml/node.ts'
import type { XmlAttribute, XmlElement, XmlNode } from '../../xml/node.ts'
import { attributesFor, childName, lookupOf } from './lookup.ts'
import { setOrigin } from './position.ts'
import type { ChildSpec, ElementSpec, Model, Scalar, ScalarValue } from './types.ts'

/** Namespaces that prefixes of schemas stand for, whatever prefix a document has for them. */
export const schemaNamespaces: Readonly<Record<string, string>> = {
  qemu: 'http://libvirt.org/schemas/domain/qemu/1.0',
}

/**
 * Reads an element by its schema: what is known is checked, what is unknown is kept in `unknown`
 * and `unknownAttributes`.
 *
 * @param path XPath of the element, for messages
 * @throws XmlError for a value that is not valid, something required that is missing, or something that is there twice
 */
export function readElement(node: XmlElement, spec: ElementSpec, path: string): Model {
  const model: Model = {}
  setOrigin(model, { path, position: node.position })
  readAttributes(node, spec, path, model)
  if (spec.text !== undefined) {
    model['value'] = readScalar(textOf(node).trim(), spec.text, path, node.position)
  } else {
    refuseText(node, path)
  }
  readChildren(node, spec, path, model)
  return model
}

function readAttributes(node: XmlElement, spec: ElementSpec, path: string, model: Model): void {
  const unknown: XmlAttribute[] = []
  const attributes = attributesFor(spec, attributeOf(node, 'type'))
  for (const { name, value, position } of node.attributes) {
    const attribute = attributes.byName.get(name)
    if (attribute !== undefined) {
      const read = readScalar(value, attribute.type, `${path}/@${name}`, position)
      if (read !== attribute.absent) model[attribute.key] = read
    } else if (name !== 'xmlns' && !name.startsWith('xmlns:')) {
      const kept = { name, value }
      if (unknown.length < HINTS) setOrigin(kept, { path: `${path}/@${name}`, position })
      unknown.push(kept)
    }
  }
  for (const { name, key, type } of attributes.required) {
    if (model[key] !== undefined) continue
    const near = unknown.slice(0, HINTS).find((other) => nearest(other.name, [name]) !== undefined)
    const hint = near === undefined ? '' : `; there is "${near.name}"`
    const fields = { path: `${path}/@${name}`, ...at(node) }
    throw new XmlError(`is missing, expected ${type.expected}${hint}`, fields)
  }
  if (unknown.length > 0) model['unknownAttributes'] = unknown
}

function at({ position }: XmlElement): { position?: NonNullable<XmlElement['position']> } {
  return position === undefined ? {} : { position }
}

function readScalar(
  text: string,
  type: Scalar,
  path: string,
  position: XmlElement['position'],
): ScalarValue {
  const value = type.parse(text)
  if (value !== undefined) return value
  throw new XmlError(`expected ${type.expected}${didYouMean(text, type.values ?? [])}`, {
    path,
    value: text,
    ...(position === undefined ? {} : { position }),
  })
}

function refuseText(node: XmlElement, path: string): void {
  const stray = textOf(node).trim()
  if (stray === '') return
  throw new XmlError('there can be no text in this element', {
    path,
    value: stray,
    ...at(node),
  })
}

function readChildren(node: XmlElement, spec: ElementSpec, path: string, model: Model): void {
  const children = childElements(node)
  const counts = countNames(children)
  const seen = new Map<string, number>()
  const unknown: XmlElement[] = []
  for (const child of children) {
    const known = findSpec(child, spec)
    const nth = (seen.get(child.name) ?? 0) + 1
    seen.set(child.name, nth)
    const several = (counts.get(child.name) ?? 0) > 1 || known?.kind === 'many'
    const childPath = `${path}/${child.name}${several ? `[${nth}]` : ''}`
    if (known === undefined) {
      const kept = withoutBlanks(detach(child))
      if (unknown.length < HINTS) setOrigin(kept, { path: childPath, position: child.position })
      unknown.push(kept)
      continue
    }
    if (nth > 1 && known.kind !== 'many') {
      throw new XmlError('is there already, and can be there only once', {
        path: childPath,
        ...at(child),
      })
    }
    readChild(child, known, childPath, model)
  }
  requireChildren(node, spec, path, model)
  if (unknown.length > 0) model['unknown'] = unknown
}

function readChild(child: XmlElement, spec: ChildSpec, path: string, model: Model): void {
  switch (spec.kind) {
    case 'one':
      model[spec.key] = readElement(child, spec.element, path)
      break
    case 'many': {
      const items = (model[spec.key] ??= []) as Model[]
      if (items.length >= mostItems) {
        throw new XmlError(`there can be at most ${mostItems} of them`, { path, ...at(child) })
      }
      items.push(readElement(child, spec.element, path))
      break
    }
    case 'flag':
      model[spec.key] = true
      break
    case 'text': {
      const value = readScalar(textOf(child).trim(), spec.type, path, child.position)
      if (value !== spec.absent) model[spec.key] = value
      break
    }
    case 'raw':
      model[spec.key] = withoutBlanks(detach(child))
  }
}

function requireChildren(node: XmlElement, spec: ElementSpec, path: string, model: Model): void {
  for (const child of lookupOf(spec).required) {
    if (model[child.key] !== undefined) continue
    const name = childName(child)
    const near = childElements(node)
      .slice(0, HINTS)
      .find((other) => nearest(other.name, [name]) !== undefined)
    const hint = near === undefined ? '' : `; there is <${shorten(near.name)}>`
    throw new XmlError(`is missing${hint}`, { path: `${path}/${name}`, ...at(node) })
  }
}

/** Among so many names what was meant is looked for. */
const HINTS = 256

/** What comes several times is compared with its like, which takes time that grows with the square. */
const mostItems = 2048

function findSpec(child: XmlElement, spec: ElementSpec): ChildSpec | undefined {
  const { children, prefixed } = lookupOf(spec)
  const known = children.get(child.name)
  if (known !== undefined || prefixed.length === 0) return known
  return prefixed.find((candidate) => {
    const name = childName(candidate)
    const colon = name.indexOf(':')
    const local = child.name.slice(child.name.indexOf(':') + 1)
    return (
      local === name.slice(colon + 1) &&
      namespaceOf(child) === schemaNamespaces[name.slice(0, colon)]
    )
  })
}

function countNames(children: readonly XmlElement[]): Map<string, number> {
  const counts = new Map<string, number>()
  for (const { name } of children) counts.set(name, (counts.get(name) ?? 0) + 1)
  return counts
}

/** Removes spaces that only indent: all of an element that has elements, and no other text, in it. */
export function withoutBlanks(node: XmlElement): XmlElement {
  const isBlank = (child: XmlNode) =>
    child.kind === 'text' && child.cdata !== true && /^[ \t\r\n]*$/.test(child.text)
  const hasText = node.children.some((child) => child.kind === 'text' && !isBlank(child))
  const hasOther = node.children.some((child) => child.kind !== 'text')
  const kept =
    hasText || !hasOther ? node.children : node.children.filter((child) => !isBlank(child))
  const children = kept.map((child) => (child.kind === 'element' ? withoutBlanks(child) : child))
  return { ...node, children }
}
