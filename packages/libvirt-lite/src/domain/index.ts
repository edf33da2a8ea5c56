export { XmlError } from '../xml/index.ts'
export type { XmlErrorCode } from '../xml/index.ts'
export { buildDomain } from './build.ts'
export type { DomainBuilder } from './build.ts'
export { domainArgv } from './argv/index.ts'
export { PLUGGABLE, plugOf } from './argv/hotplug.ts'
export { DIRECTIONS, throttleId, throttlesOf } from './argv/bandwidth.ts'
export type { Direction, Flow } from './argv/bandwidth.ts'
export type { DevicePlug } from './argv/hotplug.ts'
export type { ArgvOptions, DomainCommand, Endpoint } from './argv/command.ts'
export { featuresOf, parseDeviceHelp, qemuFeatures, qemuKvmFeatures } from './argv/features.ts'
export type { EmulatorFeatures } from './argv/features.ts'
export {
  deviceByAlias,
  devicesOfKind,
  findDevice,
  parseDevice,
  replacedDevice,
  withDevice,
  withoutDevice,
} from './device.ts'
export type { DeviceDescription } from './device.ts'
export type { AnyDevice } from './devices.ts'
export { factsOf } from './facts.ts'
export type { DomainFacts } from './facts.ts'
export { formatDomain, formatRunning } from './format.ts'
export type { FormatOptions } from './format.ts'
export { liveDefinition, numberSources } from './live.ts'
export type { LiveState } from './live.ts'
export { assignAliases } from './aliases.ts'
export { fromMachine } from './machine/from-machine.ts'
export type { ReturnedOptions } from './machine/from-machine.ts'
export { toMachine } from './machine/to-machine.ts'
export type { CommandReader, DomainMachine, MachineRequest } from './machine/to-machine.ts'
export { readMetadata, withMetadata } from './metadata.ts'
export type * from './generated/model.ts'
export { randomMac } from './normalise/network.ts'
export { normaliseDomain } from './normalise/index.ts'
export { defaultEmulator, defaultMachines } from './options.ts'
export type { DomainOptions, MachineType } from './options.ts'
export { parseDomain, readDomain } from './parse.ts'
export { checkKnown } from './unknown.ts'
export { featureName, featureProperty } from './cpu-features.ts'
export { MOST_VCPUS, bootVcpus, pluggedVcpus, vcpuStates, withVcpus } from './vcpus.ts'
