/** Numbers of `virtio_console` (VirtIO 1.2, section 5.3). */
export const VIRTIO_CONSOLE_F_SIZE = 0
export const VIRTIO_CONSOLE_F_MULTIPORT = 1
export const VIRTIO_CONSOLE_F_EMERG_WRITE = 2

export const VIRTIO_CONSOLE_DEVICE_READY = 0
export const VIRTIO_CONSOLE_DEVICE_ADD = 1
export const VIRTIO_CONSOLE_PORT_READY = 3
export const VIRTIO_CONSOLE_CONSOLE_PORT = 4
export const VIRTIO_CONSOLE_RESIZE = 5
export const VIRTIO_CONSOLE_PORT_OPEN = 6
export const VIRTIO_CONSOLE_PORT_NAME = 7

/** Bytes of `struct virtio_console_config`: cols, rows, max_nr_ports, emerg_wr. */
export const CONFIG_BYTES = 12
export const CONFIG_EMERG_WR = 8
/** Bytes of a control message before what follows: id, event, value. */
export const CONTROL_BYTES = 8

export const CONTROL_RECEIVEQ = 2
export const CONTROL_TRANSMITQ = 3

/** Queue of the driver's input for a port; output has the next one (section 5.3.2). */
export function receiveQueue(port: number): number {
  return port === 0 ? 0 : 2 * port + 2
}

/** The port of a data queue. */
export function portOfQueue(queue: number): number {
  return queue < 2 ? 0 : (queue - 2) >> 1
}
