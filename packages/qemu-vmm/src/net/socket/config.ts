/** A socket of the host: a path is that of a UNIX socket, a host `''` all addresses. */
export type SocketAddress = { path: string } | InetAddress | DescriptorAddress

/** The descriptor of a socket that is open: one that is connected or, of a server, one that is bound. */
export interface DescriptorAddress {
  fd: number
}

export interface InetAddress {
  host: string
  port: number
}

/** Frames over a connection, each with its length before it. */
export interface StreamLine {
  /** Waits to be connected to, rather than to connect. */
  server: boolean
  address: SocketAddress
}

/** Frames as datagrams of UDP. */
export interface DgramLine {
  /** Where it listens; of a group only the host counts, which says by which interface. */
  local?: InetAddress
  /** Where frames go. Without it they are only received. */
  remote?: InetAddress
  /** `remote` is a group, which all of it hear. */
  isGroup: boolean
}

/** `-netdev socket`: either of the two. */
export interface SocketNetConfig {
  type: 'socket'
  id: string
  stream?: StreamLine
  dgram?: DgramLine
}

export interface StreamNetConfig {
  type: 'stream'
  id: string
  stream: StreamLine
}

export interface DgramNetConfig {
  type: 'dgram'
  id: string
  dgram: DgramLine
}
