export { Client } from './client.ts'
export type { ClientOptions, Endpoint } from './client.ts'
export type { TlsCredentials } from './tls.ts'
export type { Codec, Value } from './codec.ts'
export { ErrorCode, ErrorDomain, RpcError, VirtError } from './errors.ts'
export type { RpcFault, VirtErrorDetails } from './errors.ts'
export type { DomainRef, NetworkRef, PoolRef, VolumeRef } from './message.ts'
export { EVENT_MESSAGES, PROCEDURES, QEMU } from './procedures/index.ts'
export type {
  Args,
  EventMessages,
  EventName,
  Procedure,
  ProcedureName,
  Procedures,
  Result,
} from './procedures/index.ts'
export { ServerConnection } from './server-connection.ts'
export type { Call, Handlers, ServerConnectionOptions } from './server-connection.ts'
export { RpcStream } from './stream.ts'
export type { TypedParam } from './typed-param.ts'
