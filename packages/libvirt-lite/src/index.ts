export * from './domain/index.ts'
export { ErrorCode, RpcError, VirtError } from './rpc/index.ts'
export type { RpcFault, VirtErrorDetails } from './rpc/index.ts'
