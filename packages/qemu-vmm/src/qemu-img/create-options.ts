/** An option of `create -o`: its type in QEMU's lists, and what it is for. */
interface CreateOption {
  readonly type: string
  readonly help: string
  /** There is one value only. */
  readonly only?: string
}

const RAW: Readonly<Record<string, CreateOption>> = {
  preallocation: { type: 'str', help: 'Preallocation mode (allowed values: off, falloc, full)' },
  size: { type: 'size', help: 'Virtual disk size' },
}

const QCOW2: Readonly<Record<string, CreateOption>> = {
  backing_file: { type: 'str', help: 'File name of a base image' },
  backing_fmt: { type: 'str', help: 'Image format of the base image' },
  cluster_size: { type: 'size', help: 'qcow2 cluster size' },
  compat: { type: 'str', help: 'Compatibility level (v2 [0.10] or v3 [1.1])' },
  compression_type: {
    type: 'str',
    help: 'Compression method used for image cluster compression',
  },
  extended_l2: { type: 'bool (on/off)', help: 'Extended L2 tables', only: 'off' },
  lazy_refcounts: { type: 'bool (on/off)', help: 'Postpone refcount updates' },
  preallocation: {
    type: 'str',
    help: 'Preallocation mode (allowed values: off, metadata, falloc, full)',
  },
  refcount_bits: { type: 'num', help: 'Width of a reference count entry in bits' },
  size: { type: 'size', help: 'Virtual disk size' },
}

/** What `-o` knows for a format. */
export function createOptions(format: string): Readonly<Record<string, CreateOption>> {
  return format === 'raw' ? RAW : QCOW2
}

/** The answer to `-o help`, as QEMU gives it. */
export function createOptionList(format: string): string {
  const lines = Object.entries(createOptions(format)).map(
    ([name, { type, help, only }]) =>
      `${`  ${name}=<${type}>`.padEnd(24)} - ${help}${only === undefined ? '' : ` (only ${only})`}`,
  )
  return [`Supported ${format} options:`, ...lines].join('\n')
}
