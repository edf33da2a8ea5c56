export * from './constants.ts'
export { VirtioDevice, type VirtioDeviceOptions, type VirtioDeviceState } from './device.ts'
export { VirtioError, type VirtioErrorCode, type VirtioErrorFields } from './errors.ts'
export type { Entropy, GuestMemory, Interrupt, MemoryParts } from './memory.ts'
export type { DeviceContext, DeviceModel } from './model.ts'
export { DescriptorChain } from './queue/chain.ts'
export type { QueueLayout } from './queue/layout.ts'
export type { VirtqueueState } from './queue/queue-state.ts'
export { type QueueFeatures, Virtqueue } from './queue/virtqueue.ts'
export type { PciCapability, VirtioPciIdentity } from './transport/pci/capabilities.ts'
export { LEGACY_QUEUE_NOTIFY } from './transport/pci/legacy.ts'
export { VIRTIO_MSI_NO_VECTOR } from './transport/pci/common-config.ts'
export {
  type NotifyAddress,
  type PciLinks,
  type VirtioPciOptions,
  type VirtioPciState,
  VirtioPciTransport,
} from './transport/pci/transport.ts'
export {
  BalloonModel,
  type BalloonOptions,
  type BalloonState,
  createBalloon,
} from './devices/balloon/device.ts'
export { BALLOON_STATS, type BalloonStats } from './devices/balloon/protocol.ts'
export type { BlkBackend } from './devices/blk/backend.ts'
export { BlkModel, type BlkOptions, type BlkState, createBlk } from './devices/blk/device.ts'
export {
  ConsoleModel,
  type ConsoleOptions,
  type ConsoleState,
  createConsole,
} from './devices/console/device.ts'
export {
  type ConsolePipe,
  ConsolePort,
  type ConsolePortOptions,
  type ConsolePortState,
} from './devices/console/port.ts'
export { NetModel, createNet } from './devices/net/device.ts'
export type { NetState } from './devices/net/net-state.ts'
export type { NetFeatures, NetOptions } from './devices/net/options.ts'
export { macText } from './devices/net/rx-filter.ts'
export { RngModel, type RngOptions, createRng } from './devices/rng/device.ts'
export * from './net/frame-batch.ts'
export * from './net/header.ts'
export type {
  LentPositions,
  LentQueue,
  QueueLink,
  ReturnedRings,
  RingLoan,
  RingServer,
} from './net/ring-loan.ts'
export {
  Link,
  type LinkCounters,
  type LinkEnd,
  type LinkGate,
  type LinkObserver,
  type LinkPassage,
  LinkSide,
  type RxFilter,
} from './net/link.ts'
export {
  type MmioInterrupt,
  type VirtioMmioState,
  VirtioMmioTransport,
} from './transport/mmio/transport.ts'
