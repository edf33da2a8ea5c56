/** Error codes of libvirt that its clients act upon (virErrorNumber). */
export const ErrorCode = {
  INTERNAL_ERROR: 1,
  NO_MEMORY: 2,
  NO_SUPPORT: 3,
  NO_CONNECT: 5,
  INVALID_ARG: 8,
  OPERATION_FAILED: 9,
  XML_ERROR: 27,
  DOM_EXIST: 28,
  OPERATION_DENIED: 29,
  SYSTEM_ERROR: 38,
  RPC: 39,
  NO_DOMAIN: 42,
  NO_NETWORK: 43,
  NO_STORAGE_POOL: 49,
  NO_STORAGE_VOL: 50,
  NO_NODE_DEVICE: 53,
  OPERATION_INVALID: 55,
  NO_INTERFACE: 57,
  NO_NWFILTER: 62,
  NO_SECRET: 66,
  CONFIG_UNSUPPORTED: 67,
  OPERATION_TIMEOUT: 68,
  NO_DOMAIN_SNAPSHOT: 72,
  INVALID_STREAM: 73,
  ARGUMENT_UNSUPPORTED: 74,
  NO_DOMAIN_METADATA: 80,
  OPERATION_UNSUPPORTED: 84,
  AGENT_UNRESPONSIVE: 86,
  RESOURCE_BUSY: 87,
  ACCESS_DENIED: 88,
  STORAGE_VOL_EXIST: 90,
  XML_INVALID_SCHEMA: 92,
  DEVICE_MISSING: 99,
} as const

/** The part of libvirt that an error comes from (virErrorDomain). */
export const ErrorDomain = {
  NONE: 0,
  RPC: 7,
  QEMU: 10,
  CONF: 13,
  NETWORK: 19,
  DOMAIN: 20,
  STORAGE: 18,
  NODEDEV: 22,
  XML: 21,
  STREAMS: 38,
} as const

/** Facts of an error beside its message. */
export interface VirtErrorDetails {
  /** Of {@link ErrorDomain}. */
  domain?: number
  cause?: unknown
}

/** What a call is answered with when it fails: libvirt's code, for programs, and a message for people. */
export class VirtError extends Error {
  override readonly name: string = 'VirtError'
  /** Of {@link ErrorCode}. */
  readonly code: number
  readonly domain: number

  constructor(code: number, message: string, details: VirtErrorDetails = {}) {
    super(message, 'cause' in details ? { cause: details.cause } : undefined)
    this.code = code
    this.domain = details.domain ?? ErrorDomain.QEMU
  }
}

/** Why bytes are not what the protocol has there. */
export type RpcFault =
  | 'E_TRUNCATED'
  | 'E_LIMIT'
  | 'E_VALUE'
  | 'E_TRAILING'
  | 'E_FRAME'
  | 'E_CLOSED'
  | 'E_TIMEOUT'

/** Bytes that break the protocol, a value that does not fit it, or a connection that ended. */
export class RpcError extends Error {
  override readonly name: string = 'RpcError'
  readonly code: RpcFault

  constructor(code: RpcFault, message: string, options?: ErrorOptions) {
    super(message, options)
    this.code = code
  }
}
