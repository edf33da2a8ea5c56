import { XmlError, parseXml } from '../xml/index.ts'
import type { DomainDefinition } from './generated/model.ts'
import { normaliseDomain } from './normalise/index.ts'
import type { DomainOptions } from './options.ts'
import { domain } from './schema/domain.ts'
import { readElement } from './schema/read.ts'

/**
 * Reads a domain's document, checks it, and completes it as libvirt does when a domain is defined.
 *
 * Elements and attributes that are not known are kept, in `unknown` and `unknownAttributes`.
 *
 * @throws XmlError with libvirt's code: 27 (XML_ERROR) when the document is wrong, 67
 *   (CONFIG_UNSUPPORTED) when it asks for what cannot be
 */
export function parseDomain(xml: string, options: DomainOptions = {}): DomainDefinition {
  const def = readDomain(xml)
  normaliseDomain(def, options)
  return def
}

/** Reads a domain's document as it is, without completing it. */
export function readDomain(xml: string): DomainDefinition {
  const root = parseXml(xml)
  if (root.name !== 'domain') {
    throw new XmlError('expected the root element <domain>', {
      path: `/${root.name}`,
      ...(root.position === undefined ? {} : { position: root.position }),
    })
  }
  return readElement(root, domain, '/domain') as unknown as DomainDefinition
}
