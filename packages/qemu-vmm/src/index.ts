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
