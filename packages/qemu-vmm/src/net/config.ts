import type { UserNetConfig } from './user/config.ts'

/** What network cards are connected to: plain data, which may go to a worker. */
export type NetdevConfig = UserNetConfig
