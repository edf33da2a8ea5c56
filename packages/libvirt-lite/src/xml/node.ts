import type { Position } from './errors.ts'

/** Prefixes of namespaces and what they stand for; the empty prefix is the default namespace. */
export type NamespaceScope = Readonly<Record<string, string>>

/** An attribute; declarations of namespaces (`xmlns`, `xmlns:x`) are attributes as well. */
export interface XmlAttribute {
  name: string
  value: string
  position?: Position
}

/** An element with what is in it, in the order of the document. */
export interface XmlElement {
  kind: 'element'
  /** The name as written, with its prefix. */
  name: string
  attributes: XmlAttribute[]
  children: XmlNode[]
  /** Where its tag begins; absent in trees that were not parsed. */
  position?: Position
  /** Namespaces that are in force at the element; absent in trees that were not parsed. */
  scope?: NamespaceScope
}

/** Characters between tags. */
export interface XmlText {
  kind: 'text'
  text: string
  /** Written as a CDATA section. */
  cdata?: boolean
}

/** A comment without its marks. */
export interface XmlComment {
  kind: 'comment'
  text: string
}

export type XmlNode = XmlElement | XmlText | XmlComment

/** A new element. */
export function element(
  name: string,
  attributes: Readonly<Record<string, string>> = {},
  children: XmlNode[] = [],
): XmlElement {
  return {
    kind: 'element',
    name,
    attributes: Object.entries(attributes).map(([name, value]) => ({ name, value })),
    children,
  }
}

/** A new piece of text. */
export function text(value: string): XmlText {
  return { kind: 'text', text: value }
}

export function isElement(node: XmlNode): node is XmlElement {
  return node.kind === 'element'
}

/** The elements directly below one. */
export function childElements(parent: XmlElement): XmlElement[] {
  return parent.children.filter(isElement)
}

/** The first element of a name directly below one. */
export function childNamed(parent: XmlElement, name: string): XmlElement | undefined {
  return parent.children.find(
    (node): node is XmlElement => node.kind === 'element' && node.name === name,
  )
}

/** The value of an attribute. */
export function attributeOf({ attributes }: XmlElement, name: string): string | undefined {
  return attributes.find((attribute) => attribute.name === name)?.value
}

/** All characters in an element, without those of elements below it. */
export function textOf({ children }: XmlElement): string {
  let text = ''
  for (const node of children) if (node.kind === 'text') text += node.text
  return text
}

/** The namespace that an element is in: what its prefix stands for, or '' for none. */
export function namespaceOf({ name, scope = {} }: XmlElement): string {
  const colon = name.indexOf(':')
  const prefix = colon < 0 ? '' : name.slice(0, colon)
  return Object.hasOwn(scope, prefix) ? (scope[prefix] ?? '') : ''
}

/**
 * A copy of an element that stands on its own: without positions, and with declarations of the
 * namespaces that it has from the elements around it.
 */
export function detach(root: XmlElement): XmlElement {
  const missing = new Map<string, string>()
  const copy = (node: XmlNode, declared: ReadonlySet<string>): XmlNode => {
    if (node.kind !== 'element') return { ...node }
    const own = node.attributes.flatMap(({ name }) => declaredPrefix(name) ?? [])
    const inside = own.length === 0 ? declared : new Set([...declared, ...own])
    for (const prefix of usedPrefixes(node)) {
      const uri = node.scope?.[prefix]
      if (!inside.has(prefix) && uri !== undefined && uri !== '') missing.set(prefix, uri)
    }
    return {
      kind: 'element',
      name: node.name,
      attributes: node.attributes.map(({ name, value }) => ({ name, value })),
      children: node.children.map((child) => copy(child, inside)),
    }
  }
  const result = copy(root, new Set(['xml'])) as XmlElement
  const declarations = [...missing].map(([prefix, value]) => ({
    name: prefix === '' ? 'xmlns' : `xmlns:${prefix}`,
    value,
  }))
  return { ...result, attributes: [...declarations, ...result.attributes] }
}

function declaredPrefix(attribute: string): string | undefined {
  if (attribute === 'xmlns') return ''
  return attribute.startsWith('xmlns:') ? attribute.slice('xmlns:'.length) : undefined
}

function usedPrefixes({ name, attributes }: XmlElement): string[] {
  const prefix = (name: string) => name.slice(0, Math.max(0, name.indexOf(':')))
  const ofAttributes = attributes
    .filter(({ name }) => name.includes(':') && declaredPrefix(name) === undefined)
    .map(({ name }) => prefix(name))
  return [prefix(name), ...ofAttributes]
}
