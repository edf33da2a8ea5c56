/**
 * Which of libvirt's errors it is: a document that is wrong, one that asks for what there is not, or one with words that no
 * schema has.
 */
export type XmlErrorCode = 'E_XML_ERROR' | 'E_CONFIG_UNSUPPORTED' | 'E_XML_INVALID_SCHEMA'

/** libvirt's numbers (virErrorNumber), by which clients tell errors apart. */
const libvirtCodes = {
  E_XML_ERROR: 27,
  E_CONFIG_UNSUPPORTED: 67,
  E_XML_INVALID_SCHEMA: 92,
} as const

/** Where something is: lines and columns count from 1. */
export interface Position {
  line: number
  column: number
}

/** What an {@link XmlError} knows besides its message. */
export interface XmlErrorFields {
  /** XPath of the element or attribute: `/domain/devices/disk[1]/target/@bus`. */
  path?: string
  /** The value that is refused. */
  value?: string
  position?: Position
}

/**
 * A document that is refused. The message names the path, the value, the line, what would be right,
 * and what may have been meant.
 */
export class XmlError extends Error {
  override readonly name: string = 'XmlError'
  readonly code: XmlErrorCode
  /** libvirt's number of the error: 27, XML_ERROR, 67, CONFIG_UNSUPPORTED, or 92, XML_INVALID_SCHEMA. */
  readonly libvirtCode: 27 | 67 | 92
  readonly path: string | undefined
  readonly value: string | undefined
  readonly line: number | undefined
  readonly column: number | undefined

  constructor(message: string, fields: XmlErrorFields = {}, code: XmlErrorCode = 'E_XML_ERROR') {
    super(describe(message, fields))
    this.code = code
    this.libvirtCode = libvirtCodes[code]
    this.path = fields.path
    this.value = fields.value
    this.line = fields.position?.line
    this.column = fields.position?.column
  }
}

/** A value of a document goes into a message, a whole book of it does not. */
export function shorten(text: string, most: number = 80): string {
  return text.length <= most ? text : `${text.slice(0, most)}... (${text.length} characters)`
}

function describe(message: string, { path, value, position }: XmlErrorFields): string {
  const where = position === undefined ? '' : ` (line ${position.line})`
  if (path === undefined) return `${message}${where}`
  const what = value === undefined ? path : `${path} = ${JSON.stringify(shorten(value))}`
  return `${what}${where}: ${message}`
}
