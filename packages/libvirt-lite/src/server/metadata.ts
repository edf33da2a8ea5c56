import { readMetadata, withMetadata } from '../domain/index.ts'
import { translate } from '../driver/model.ts'
import type { DomainDefinition } from '../driver/model.ts'
import { ErrorCode, VirtError } from '../rpc/index.ts'
import type { Handlers } from '../rpc/index.ts'
import { checkFlags } from './check-flags.ts'
import type { ServerContext } from './context.ts'
import { IMPACT_FLAGS, definitionFor, impactOf } from './impact.ts'

/** Characters that XML cannot have. */
const CONTROLS = /[\0-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]/

/** Kinds of `virDomainGetMetadata`. */
const KIND = { DESCRIPTION: 0, TITLE: 1, ELEMENT: 2 } as const

/** Titles, descriptions, and what other programs keep with a domain. */
export function metadataHandlers({ domains }: ServerContext): Handlers {
  return {
    DOMAIN_GET_METADATA({ dom, type, uri, flags }) {
      checkFlags(flags, IMPACT_FLAGS, 'virDomainGetMetadata')
      const definition = definitionFor(domains.of(dom), flags)
      const found = read(definition, type, uri)
      if (found !== undefined) return { metadata: found }
      throw new VirtError(
        ErrorCode.NO_DOMAIN_METADATA,
        'metadata not found: Requested metadata element is not present',
      )
    },
    async DOMAIN_SET_METADATA({ dom, type, metadata, key, uri, flags }) {
      checkFlags(flags, IMPACT_FLAGS, 'virDomainSetMetadata')
      const domain = domains.of(dom)
      await domain.exclusively(() => {
        const { isLive, isConfig } = impactOf(domain, flags)
        const change = (definition: DomainDefinition): DomainDefinition =>
          write(structuredClone(definition), type, { metadata, key, uri })
        const live = isLive ? change(domain.live!) : undefined
        const config = isConfig ? change(domain.definition!) : undefined
        if (config !== undefined) domains.change(domain, config)
        if (live !== undefined) domain.running(live)
        domain.tell({ kind: 'metadata', type, uri: type === KIND.ELEMENT ? uri : undefined })
      })
    },
  }
}

function read(
  definition: DomainDefinition,
  type: number,
  uri: string | undefined,
): string | undefined {
  switch (type) {
    case KIND.DESCRIPTION:
      return definition.description
    case KIND.TITLE:
      return definition.title
    case KIND.ELEMENT:
      if (uri === undefined) throw wrong('an element of metadata is asked for by its URI')
      return readMetadata(definition, uri)
    default:
      throw unknown(type)
  }
}

interface Change {
  metadata: string | undefined
  key: string | undefined
  uri: string | undefined
}

function write(
  definition: DomainDefinition,
  type: number,
  { metadata, key, uri }: Change,
): DomainDefinition {
  for (const text of [metadata, uri]) {
    if (text !== undefined && CONTROLS.test(text)) {
      throw wrong('metadata with control characters, which no document can have')
    }
  }
  switch (type) {
    case KIND.DESCRIPTION:
      if (metadata === undefined || metadata === '') delete definition.description
      else definition.description = metadata
      return definition
    case KIND.TITLE:
      if (metadata?.includes('\n')) throw wrong("Domain title can't contain newlines")
      if (metadata === undefined || metadata === '') delete definition.title
      else definition.title = metadata
      return definition
    case KIND.ELEMENT:
      if (uri === undefined || uri === '') throw wrong('an element of metadata has a URI')
      return translate(
        () => withMetadata(definition, { xml: metadata, key, uri }) as DomainDefinition,
      )
    default:
      throw unknown(type)
  }
}

function unknown(type: number): VirtError {
  return wrong(`unknown metadata type '${type}'`)
}

function wrong(text: string): VirtError {
  return new VirtError(ErrorCode.INVALID_ARG, `invalid argument: ${text}`)
}
