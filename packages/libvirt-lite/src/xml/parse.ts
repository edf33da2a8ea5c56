import { SaxesParser } from 'saxes'
import { XmlError } from './errors.ts'
import type { NamespaceScope, XmlAttribute, XmlElement, XmlNode } from './node.ts'

/** What a document may not exceed; all of it is held in memory. */
export interface XmlLimits {
  /** Characters of the document (default: 10 MiB). */
  length?: number
  /** Elements inside each other (default: 256, as in libxml2). */
  depth?: number
  /** Elements, attributes, comments and pieces of text with anything in them (default: 100,000). */
  nodes?: number
}

/** Far more than any domain has, and few enough to be read within a second: nobody else is served meanwhile. */
const defaults = { length: 10 << 20, depth: 256, nodes: 100_000 }

/**
 * Reads a document as a tree that knows the line of each element and attribute.
 *
 * There is no document type in such a document: one with `<!DOCTYPE` is refused, so that entities
 * can neither expand without end nor name files and servers.
 *
 * @throws XmlError when the document is not well-formed, declares a document type, or exceeds a limit
 */
export function parseXml(source: string, limits: XmlLimits = {}): XmlElement {
  const { length, depth, nodes } = { ...defaults, ...limits }
  if (source.length > length) {
    throw new XmlError(`the document has ${source.length} characters, at most ${length} are read`)
  }
  const parser = new SaxesParser({ xmlns: true, position: true })
  const open: XmlElement[] = []
  const scopes: NamespaceScope[] = []
  let root: XmlElement | undefined
  let attributes: XmlAttribute[] = []
  let start = { line: 1, column: 1 }
  let count = 0

  const here = () => ({ line: parser.line, column: parser.column + 1 })
  const fail = (message: string): never => {
    throw new XmlError(message, { position: here() })
  }
  const take = () => {
    if (++count > nodes) fail(`more than ${nodes} elements, attributes, comments and texts`)
  }
  const append = (node: XmlNode) => open.at(-1)?.children.push(node)

  parser.on('error', (error) => {
    // The parser writes the position in front, which the error has of its own.
    throw new XmlError(error.message.replace(/^\d+:\d+: /, ''), { position: here() })
  })
  parser.on('xmldecl', ({ version }) => {
    if (version !== undefined && version !== '1.0') fail(`XML ${version} is not read, 1.0 is`)
  })
  parser.on('doctype', () => fail('a document type (<!DOCTYPE>) is not allowed'))
  parser.on('processinginstruction', ({ target }) => {
    // Nothing in these documents has a use for one, and it would be lost.
    if (open.length > 0) fail(`the processing instruction <?${target}?> is not allowed`)
  })
  parser.on('opentagstart', ({ name }) => {
    take()
    attributes = []
    const { line, column } = here()
    start = { line, column: Math.max(1, column - name.length - 2) }
  })
  parser.on('attribute', ({ name, value }) => {
    take()
    attributes.push({ name, value, position: here() })
  })
  parser.on('opentag', ({ name, ns }) => {
    if (open.length >= depth) fail(`elements are inside each other more than ${depth} deep`)
    const around = scopes.at(-1) ?? {}
    // Most elements declare nothing and share what is around them.
    const scope = hasKeys(ns) ? { ...around, ...ns } : around
    const node: XmlElement = {
      kind: 'element',
      name,
      attributes,
      children: [],
      position: start,
      scope,
    }
    append(node)
    root ??= node
    open.push(node)
    scopes.push(scope)
  })
  parser.on('closetag', () => {
    open.pop()
    scopes.pop()
  })
  const appendText = (node: XmlNode): void => {
    take()
    append(node)
  }
  parser.on('text', (text) => {
    // What only indents comes with each element.
    if (/\S/.test(text)) take()
    append({ kind: 'text', text })
  })
  parser.on('cdata', (text) => appendText({ kind: 'text', text, cdata: true }))
  parser.on('comment', (text) => appendText({ kind: 'comment', text }))

  // A mark of the byte order that was decoded with the text is no part of the document.
  parser.write(source.startsWith('\uFEFF') ? source.slice(1) : source).close()
  if (root === undefined) throw new XmlError('the document is empty')
  return root
}

function hasKeys(object: object): boolean {
  for (const _ in object) return true
  return false
}
