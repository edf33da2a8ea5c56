export { defineDevice } from './device.ts'
export type {
  AccessSizes,
  Clock,
  ClockTimer,
  Device,
  DeviceContext,
  DeviceDefinition,
  Entropy,
  GuestMemory,
  IoHandler,
  IoRange,
  IrqLine,
} from './device.ts'
export type {
  MemoryBackendConfig,
  ObjectConfig,
  RngBuiltinConfig,
  RngRandomConfig,
} from './objects/config.ts'
export { VmmError } from './errors.ts'
export type { VmmErrorCode, VmmErrorFields } from './errors.ts'
export type {
  CpuConfig,
  CpuInfo,
  ExitInfo,
  MachineConfig,
  MachineStatus,
  MachineType,
  SerialBackend,
} from './machine/config.ts'
export type { DeviceOption } from './devices/device-type.ts'
export type { BootOptions } from './machine/boot-options.ts'
export type { SmbiosOption } from './machine/smbios/options.ts'
export type { DriveConfig } from './machine/drive-config.ts'
export type { CpuTopology, SmpConfig } from './machine/topology.ts'
export type { Screen, TextScreen } from './display/screen.ts'
export type { Picture } from './chipset/vga/render.ts'
export { VirtualMachine } from './machine/virtual-machine.ts'
export type { EventDetail, MachineEvent } from './machine/emitter.ts'
export type { DeletedDevice } from './machine/device-tree.ts'
export type { DriveInfo } from './machine/drive.ts'
export type { MachineState } from './machine/machine-state.ts'
export { HostClock, ManualClock } from './machine/clock.ts'
export type { MachineClock } from './machine/clock.ts'
export { SeededEntropy, hostEntropy } from './machine/entropy.ts'
export type {
  GuestForward,
  HostForward,
  UserIpv4,
  UserIpv6,
  UserNetConfig,
} from './net/user/config.ts'
export type { ConnectDecision, ConnectRequest, Endpoint, OnConnect } from './net/user/decision.ts'
export { type UserOption, parseUserOptions } from './net/user/options.ts'
export type { Announcement } from './net/announce.ts'
export type {
  CardFilter,
  HubPortConfig,
  NetdevConfig,
  NetworkCard,
  NetworkChange,
  NetworkInfo,
} from './net/config.ts'
export type {
  DgramLine,
  DgramNetConfig,
  InetAddress,
  SocketAddress,
  SocketNetConfig,
  StreamLine,
  StreamNetConfig,
} from './net/socket/config.ts'
export { parseDgramOptions, parseSocketOptions, parseStreamOptions } from './net/socket/options.ts'
export { type NetOption } from './net/options.ts'
export type { BridgeNetConfig } from './net/bridge/config.ts'
export type { TapNetConfig } from './net/tap/config.ts'
export { UserNet, type UserNetHost } from './net/user/user-net.ts'
export type { UserNetUsage } from './native/usernet.ts'
export { debugExit, debugcon } from './chipset/debug-devices.ts'
