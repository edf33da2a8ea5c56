import { DIRECTIONS } from '../domain/index.ts'
import type { Direction, Flow, NetworkInterface } from '../domain/index.ts'
import type { DomainDefinition } from '../driver/model.ts'
import { ErrorCode, VirtError } from '../rpc/index.ts'
import type { DomainRef, Handlers, TypedParam } from '../rpc/index.ts'
import { checkFlags } from './check-flags.ts'
import type { ServerContext } from './context.ts'
import { IMPACT_FLAGS, definitionFor, impactOf } from './impact.ts'

/** Flag that says that the client takes parameters that are strings. */
const STRINGS_OK = 4
const FIELDS = ['average', 'peak', 'burst'] as const
type Changes = Partial<Record<Direction, Flow>>

/** How fast network cards may be: `virsh domiftune`. */
export function bandwidthHandlers({ domains }: ServerContext): Handlers {
  const get = (dom: DomainRef, device: string, flags: number): TypedParam[] => {
    checkFlags(flags, IMPACT_FLAGS | STRINGS_OK, 'virDomainGetInterfaceParameters')
    const definition = definitionFor(domains.of(dom), flags & IMPACT_FLAGS)
    const { bandwidth } = cardsOf(definition)[find(definition, device)]!
    return DIRECTIONS.flatMap(({ name }) => {
      const flow: Flow = bandwidth?.[name] ?? {}
      const fields = name === 'inbound' ? ([...FIELDS, 'floor'] as const) : FIELDS
      return fields.map((field): TypedParam => ({
        field: `${name}.${field}`,
        type: 'uint',
        value: flow[field] ?? 0,
      }))
    })
  }
  return {
    /** A client asks with no room first, to learn how much there is. */
    DOMAIN_GET_INTERFACE_PARAMETERS({ dom, device, max, flags }) {
      const params = get(dom, device, flags)
      return { params: max <= 0 ? [] : params.slice(0, max), count: params.length }
    },
    async DOMAIN_SET_INTERFACE_PARAMETERS({ dom, device, params, flags }) {
      checkFlags(flags, IMPACT_FLAGS, 'virDomainSetInterfaceParameters')
      const domain = domains.of(dom)
      const changes = changesOf(params)
      await domain.exclusively(async () => {
        const { isLive, isConfig } = impactOf(domain, flags)
        const config = isConfig ? changed(domain.definition!, device, changes) : undefined
        if (isLive) {
          const live = changed(domain.live!, device, changes)
          await domain.devices.changeBandwidth(find(live, device), live)
        }
        if (config !== undefined) domains.change(domain, config)
      })
    },
  }
}

const cardsOf = ({ devices }: DomainDefinition): NetworkInterface[] => devices?.interfaces ?? []

/** A card by its address, or by what it is called on the host. @throws VirtError where there is none */
function find(definition: DomainDefinition, device: string): number {
  const wanted = device.toLowerCase()
  const index = cardsOf(definition).findIndex(
    ({ mac, target }) => mac?.address.toLowerCase() === wanted || target?.dev === device,
  )
  if (index >= 0) return index
  throw wrong(`Can't find device ${device}`)
}

/** A definition with other limits of a card. One of a direction replaces all of it; an average of 0 is none. */
function changed(given: DomainDefinition, device: string, changes: Changes): DomainDefinition {
  const definition = structuredClone(given)
  const card = cardsOf(definition)[find(definition, device)]!
  const bandwidth = { ...card.bandwidth }
  for (const { name } of DIRECTIONS) {
    const flow = changes[name]
    if (flow?.average === 0) delete bandwidth[name]
    else if (flow?.average !== undefined) bandwidth[name] = flow
  }
  if (bandwidth.inbound === undefined && bandwidth.outbound === undefined) delete card.bandwidth
  else card.bandwidth = bandwidth
  return definition
}

/** @throws VirtError for parameters that there are not, not of this type, or that no network here can keep */
function changesOf(params: readonly TypedParam[]): Changes {
  const changes: Changes = {}
  for (const { field, type, value } of params) {
    const [direction, name] = field.split('.')
    const known = DIRECTIONS.find((one) => one.name === direction)
    const rate = [...FIELDS, 'floor' as const].find((one) => one === name)
    if (
      known === undefined ||
      rate === undefined ||
      (rate === 'floor' && direction !== 'inbound')
    ) {
      throw wrong(
        `parameter '${field}' not supported: expected average, peak or burst of inbound or outbound`,
      )
    }
    if (type !== 'uint') {
      throw wrong(`invalid type '${type}' for parameter '${field}', expected 'uint'`)
    }
    if (rate === 'floor') {
      if (Number(value) === 0) continue
      throw new VirtError(
        ErrorCode.OPERATION_UNSUPPORTED,
        `Operation not supported: inbound.floor ${String(value)}: each guest has a network in user mode to itself`,
      )
    }
    const number = Number(value)
    changes[known.name] = {
      ...changes[known.name],
      ...(number === 0 && rate !== 'average' ? {} : { [rate]: number }),
    }
  }
  for (const [name, { average, peak, burst }] of Object.entries(changes)) {
    if (average !== undefined && average > 0 && peak !== undefined && peak < average) {
      throw wrong(`${name}.peak ${peak} is less than ${name}.average ${average}`)
    }
    if (average === undefined && (peak !== undefined || burst !== undefined)) {
      throw wrong(`${name}.average is missing: peak and burst are of no use without it`)
    }
  }
  return changes
}

function wrong(text: string): VirtError {
  return new VirtError(ErrorCode.INVALID_ARG, `invalid argument: ${text}`)
}
