import { isDeepStrictEqual } from 'node:util'
import {
  PLUGGABLE,
  deviceByAlias,
  devicesOfKind,
  findDevice,
  parseDevice,
  randomMac,
  replacedDevice,
  withDevice,
  withoutDevice,
} from '../domain/index.ts'
import type { DeviceDescription, Disk, NetworkInterface } from '../domain/index.ts'
import { invalid } from '../driver/domain.ts'
import type { Domain } from '../driver/domain.ts'
import { translate } from '../driver/model.ts'
import type { DomainDefinition } from '../driver/model.ts'
import { ErrorCode, VirtError } from '../rpc/index.ts'
import type { DomainRef, Handlers } from '../rpc/index.ts'
import { checkFlags } from './check-flags.ts'
import type { ServerContext } from './context.ts'
import { IMPACT, IMPACT_FLAGS, impactOf } from './impact.ts'

/** `virDomainDeviceModifyFlags`: to open a tray that the guest has locked. */
const FORCE = 4

/** Devices that come to domains, leave them, and change. */
export function deviceHandlers({ domains }: ServerContext): Handlers {
  const attach = async (dom: DomainRef, xml: string, flags: number): Promise<void> => {
    const domain = domains.of(dom)
    await domain.exclusively(async () => {
      const { isLive, isConfig } = impactOf(domain, flags)
      const [forLive, forConfig] = describeTwice(xml)
      let config: DomainDefinition | undefined
      if (isConfig) {
        refuseSameTarget(domain.definition!, forConfig, (target) =>
          invalid(`target ${target} already exists`),
        )
        config = translate(
          () => withDevice(domain.definition!, forConfig, domains.modelOptions).definition,
        ) as DomainDefinition
      }
      if (isLive && isForDrive(domain.live!, forLive)) await updateLive(domain, forLive, false)
      else if (isLive) {
        refuseSameTarget(domain.live!, forLive, (target, theirs, ours) => {
          const text = `target '${target}' duplicated for disk sources '${theirs}' and '${ours}'`
          return new VirtError(ErrorCode.XML_ERROR, `XML error: ${text}`)
        })
        const alias = await domain.devices.attach(forLive, domains.modelOptions)
        domain.tell({ kind: 'device-added', alias })
      }
      if (config !== undefined) domains.change(domain, config)
    })
  }

  const detach = async (dom: DomainRef, xml: string, flags: number): Promise<void> => {
    const domain = domains.of(dom)
    await domain.exclusively(async () => {
      const { isLive, isConfig } = impactOf(domain, flags)
      const wanted = translate(() => parseDevice(xml))
      let config: DomainDefinition | undefined
      if (isConfig) {
        const { definition } = domain
        const index = findOne(definition!, withoutAlias(wanted), 'config')
        config = withoutDevice(definition!, wanted.key, index) as DomainDefinition
      }
      if (isLive) {
        const index = findOne(domain.live!, wanted, 'live')
        await detachLive(domain, wanted.key, index)
      }
      if (config !== undefined) domains.change(domain, config)
    })
  }

  const update = async (dom: DomainRef, xml: string, flags: number): Promise<void> => {
    const domain = domains.of(dom)
    await domain.exclusively(async () => {
      const { isLive, isConfig } = impactOf(domain, flags)
      const [forLive, forConfig] = describeTwice(xml)
      let config: DomainDefinition | undefined
      if (isConfig) {
        const { definition } = domain
        if (forConfig.key === 'disks' && findDevice(definition!, forConfig).length === 0) {
          const { dev = '' } = (forConfig.device as Disk).target ?? {}
          const text = `invalid argument: target ${dev} doesn't exist.`
          throw new VirtError(ErrorCode.INVALID_ARG, text)
        }
        const index = findOne(definition!, withoutAlias(forConfig), 'config')
        config = replace(definition!, index, forConfig, {})
      }
      if (isLive) await updateLive(domain, forLive, (flags & FORCE) !== 0)
      if (config !== undefined) domains.change(domain, config)
    })
  }

  const replace = (
    definition: DomainDefinition,
    index: number,
    description: DeviceDescription,
    more: { isRunning?: boolean },
  ): DomainDefinition => {
    // What a description leaves open stays: above all, where the device is.
    const before = devicesOfKind(definition, description.key)[index]!
    const { device } = description
    if (device.address === undefined && before.address !== undefined) {
      device.address = structuredClone(before.address)
    }
    const options = { ...domains.modelOptions, ...more }
    return translate(() =>
      replacedDevice(definition, index, description, options),
    ) as DomainDefinition
  }

  /** Of a running domain, media can be changed, and cables plugged in and out. */
  const updateLive = async (
    domain: Domain,
    description: DeviceDescription,
    force: boolean,
  ): Promise<void> => {
    const live = domain.live!
    const index = findOne(live, description, 'live')
    const before = devicesOfKind(live, description.key)[index] as NetworkInterface
    if (before.alias !== undefined) description.device.alias = { ...before.alias }
    const after = replace(live, index, description, { isRunning: true })
    const { device: kind } = before as object as Disk
    if (description.key === 'disks' && (kind === 'cdrom' || kind === 'floppy')) {
      const change = await domain.devices.changeMedium(index, description, after, force)
      domain.tell({ kind: 'medium', ...change })
    } else if (description.key === 'interfaces') {
      const now = devicesOfKind(after, description.key)[index] as NetworkInterface
      if (!isDeepStrictEqual(withoutLive(before), withoutLive(now))) {
        throw cannot('only the link state and the bandwidth of a card can be changed')
      }
      if (!isDeepStrictEqual(before.bandwidth, now.bandwidth)) {
        await domain.devices.changeBandwidth(index, after)
      }
      await domain.devices.changeLink(index, after)
    } else throw cannot(`live update of device '${description.element}' is not supported`)
  }

  return {
    DOMAIN_ATTACH_DEVICE: ({ dom, xml }) => attach(dom, xml, IMPACT.LIVE),
    DOMAIN_ATTACH_DEVICE_FLAGS({ dom, xml, flags }) {
      checkFlags(flags, IMPACT_FLAGS, 'virDomainAttachDeviceFlags')
      return attach(dom, xml, flags)
    },
    DOMAIN_DETACH_DEVICE: ({ dom, xml }) => detach(dom, xml, IMPACT.LIVE),
    DOMAIN_DETACH_DEVICE_FLAGS({ dom, xml, flags }) {
      checkFlags(flags, IMPACT_FLAGS, 'virDomainDetachDeviceFlags')
      return detach(dom, xml, flags)
    },
    DOMAIN_UPDATE_DEVICE_FLAGS({ dom, xml, flags }) {
      checkFlags(flags, IMPACT_FLAGS | FORCE, 'virDomainUpdateDeviceFlags')
      return update(dom, xml, flags)
    },
    async DOMAIN_DETACH_DEVICE_ALIAS({ dom, alias, flags }) {
      checkFlags(flags, IMPACT_FLAGS, 'virDomainDetachDeviceAlias')
      const domain = domains.of(dom)
      await domain.exclusively(async () => {
        const { isLive, isConfig } = impactOf(domain, flags)
        const find = (definition: DomainDefinition) => {
          const place = deviceByAlias(definition, alias)
          if (place !== undefined) return place
          throw missing(`no device found with alias ${alias}`)
        }
        const kept = isConfig ? find(domain.definition!) : undefined
        const config = kept && withoutDevice(domain.definition!, kept.key, kept.index)
        if (isLive) {
          const { key, index } = find(domain.live!)
          await detachLive(domain, key, index)
        }
        if (config !== undefined) domains.change(domain, config as DomainDefinition)
      })
    },
  }
}

/** One for what runs and one for what is kept: both are completed, each for itself, but it is one device. */
function describeTwice(xml: string): [DeviceDescription, DeviceDescription] {
  const [live, config] = translate(() => [parseDevice(xml), parseDevice(xml)] as const)
  if (live.key === 'interfaces') {
    const card = live.device as NetworkInterface
    card.mac ??= { address: randomMac() }
    ;(config.device as NetworkInterface).mac ??= { ...card.mac }
  }
  return [live, config]
}

/** In a definition devices have no names but those of the user. */
function withoutAlias(description: DeviceDescription): DeviceDescription {
  const { alias, ...device } = description.device
  if (alias === undefined || alias.name.startsWith('ua-')) return description
  return { ...description, device }
}

const sourceOf = ({ source }: Disk): string => source?.file ?? source?.dev ?? '<null>'

/** Whether it is a medium for a drive that is there: to attach it is to put it in, as libvirt has always had it. */
function isForDrive(definition: DomainDefinition, { key, device }: DeviceDescription): boolean {
  const isDrive = ({ device: kind }: Disk): boolean => kind === 'cdrom' || kind === 'floppy'
  const wanted = device as Disk
  return (
    key === 'disks' &&
    isDrive(wanted) &&
    (definition.devices?.disks ?? []).some(
      (disk) => isDrive(disk) && disk.target?.dev === wanted.target?.dev,
    )
  )
}

function refuseSameTarget(
  definition: DomainDefinition,
  { key, device }: DeviceDescription,
  error: (target: string, theirs: string, ours: string) => VirtError,
): void {
  const { target } = device as Disk
  if (key !== 'disks' || target === undefined) return
  const same = (definition.devices?.disks ?? []).find((disk) => disk.target?.dev === target.dev)
  if (same !== undefined) throw error(target.dev, sourceOf(same), sourceOf(device as Disk))
}

/** @throws VirtError unless there is exactly one */
function findOne(
  definition: DomainDefinition,
  wanted: DeviceDescription,
  where: 'live' | 'config',
): number {
  const found = findDevice(definition, wanted)
  if (found.length === 1) return found[0]!
  const { key, element } = wanted
  const device = wanted.device as Disk & NetworkInterface
  if (found.length > 1) {
    const text = `${found.length} devices match the ${element}: say more of it, such as its address`
    throw new VirtError(ErrorCode.OPERATION_FAILED, `operation failed: ${text}`)
  }
  if (key === 'disks') {
    const { dev = '' } = device.target ?? {}
    throw missing(where === 'live' ? `disk ${dev} not found` : `no target device ${dev}`)
  }
  if (key === 'interfaces' && device.mac !== undefined) {
    const name = device.alias?.name ?? '(<null>)'
    const mac = `MAC address '${device.mac.address}'`
    throw missing(`no device found at address '(<null>)' matching ${mac} and alias '${name}'`)
  }
  throw missing(`no ${element} of the domain is as described`)
}

const withoutLive = (card: NetworkInterface): NetworkInterface => {
  const { link: _link, bandwidth: _bandwidth, ...rest } = card
  return structuredClone(rest)
}

function cannot(text: string): VirtError {
  return new VirtError(
    ErrorCode.OPERATION_UNSUPPORTED,
    `Operation not supported: ${text} while the domain runs: use --config, and start it again`,
  )
}

function missing(text: string): VirtError {
  return new VirtError(ErrorCode.DEVICE_MISSING, `device not found: ${text}`)
}

async function detachLive(
  domain: Domain,
  key: DeviceDescription['key'],
  index: number,
): Promise<void> {
  const device = devicesOfKind(domain.live!, key)[index]!
  const { target, device: kind } = device as Disk
  if (key === 'disks' && (kind === 'cdrom' || kind === 'floppy')) {
    const text = `Operation not supported: disk device type '${kind}' cannot be detached`
    throw new VirtError(ErrorCode.OPERATION_UNSUPPORTED, text)
  }
  if (key === 'disks' && target?.bus !== 'virtio') {
    throw cannot(`a disk at the bus '${target?.bus}' cannot be unplugged`)
  }
  if (key !== 'disks' && key !== 'interfaces' && key !== 'rngs') {
    throw cannot(`only ${PLUGGABLE} can be unplugged`)
  }
  await domain.devices.detach(device)
}
