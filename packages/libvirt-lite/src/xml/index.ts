export { XmlError } from './errors.ts'
export type { Position, XmlErrorCode, XmlErrorFields } from './errors.ts'
export { attributeOf, childElements, childNamed, detach, element, text, textOf } from './node.ts'
export type {
  NamespaceScope,
  XmlAttribute,
  XmlComment,
  XmlElement,
  XmlNode,
  XmlText,
} from './node.ts'
export { parseXml } from './parse.ts'
export type { XmlLimits } from './parse.ts'
export { printVerbatim, printXml } from './print.ts'
