import { createNet, macText } from 'virtio'
import type { NetFeatures, NetModel, VirtioDevice } from 'virtio'

import { VmmError } from '../errors.ts'
import { BOOT_INDEX_PROPERTY, addBootIndex } from './boot-index.ts'
import type { DeviceOption, DeviceType, PropertySpec } from './device-type.ts'
import { virtioMemory } from './guest-memory.ts'
import { macAddress } from './mac-address.ts'
import { nicRom } from './nic-rom.ts'
import { firmwarePath } from './pci-address.ts'
import type { PlugContext } from './plug-context.ts'
import { propertyReader } from './properties.ts'
import { virtioPciProperties, VirtioPciDevice } from './virtio-pci.ts'

const MAX_PAIRS = 64
const ROM = nicRom('virtio')

/** QEMU's names of features, and those of the device. */
const FEATURES: Readonly<Record<string, keyof NetFeatures>> = {
  csum: 'csum',
  gso: 'gso',
  guest_csum: 'guestCsum',
  guest_tso4: 'guestTso4',
  guest_tso6: 'guestTso6',
  guest_ecn: 'guestEcn',
  guest_ufo: 'guestUfo',
  guest_announce: 'guestAnnounce',
  host_tso4: 'hostTso4',
  host_tso6: 'hostTso6',
  host_ecn: 'hostEcn',
  host_ufo: 'hostUfo',
  mrg_rxbuf: 'mrgRxbuf',
  status: 'status',
  ctrl_vq: 'ctrlVq',
  ctrl_rx: 'ctrlRx',
  ctrl_vlan: 'ctrlVlan',
  ctrl_rx_extra: 'ctrlRxExtra',
  ctrl_mac_addr: 'ctrlMacAddr',
  ctrl_guest_offloads: 'ctrlGuestOffloads',
}

const FEATURE_PROPERTIES: readonly PropertySpec[] = Object.keys(FEATURES).map((name) => ({
  name,
  type: 'bool',
  help: 'Offered to the driver, where the network can do it',
  default: 'on',
}))

export const virtioNetPci: DeviceType = {
  name: 'virtio-net-pci',
  bus: 'PCI',
  category: 'Network devices',
  description: 'virtio network card',
  hotpluggable: true,
  properties: [
    { name: 'netdev', type: 'str', help: 'ID of a netdev to use as a backend, required' },
    {
      name: 'mac',
      type: 'str',
      help: 'Ethernet 6-byte MAC Address',
      default: '52:54:00:12:34:56, and one more for each card',
    },
    { name: 'mq', type: 'bool', help: 'A pair of queues for each vCPU', default: 'off' },
    {
      name: 'rx_queue_size',
      type: 'uint16',
      help: 'Descriptors of receive queues',
      default: '256',
    },
    { name: 'tx_queue_size', type: 'uint16', help: 'Descriptors of send queues', default: '256' },
    { name: 'host_mtu', type: 'uint16', help: 'What the driver shall send at most, 0 for any' },
    ...FEATURE_PROPERTIES,
    BOOT_INDEX_PROPERTY,
    ...virtioPciProperties(ROM),
  ],
  plug(context, option) {
    const read = propertyReader(option)
    const name = option.id ?? option.driver
    const pairs = read.bool('mq', false) ? Math.min(context.cpus, MAX_PAIRS) : 1
    const mtu = read.int('host_mtu', 0, 65_535, 0)
    if (mtu !== 0 && mtu < 68) {
      throw new VmmError(
        'E_DEVICE_OPTION',
        `Property '${name}.host_mtu' is ${mtu}: use 68 to 65535`,
      )
    }
    const netdev = read.required('netdev')
    const mac = macAddress(context, option)
    const device = createNet({
      memory: virtioMemory(context.memory),
      side: context.netdev(netdev, { name, model: option.driver, mac: macText(mac) }),
      mac,
      queuePairs: pairs,
      rxQueueSize: queueSize(option, 'rx_queue_size'),
      txQueueSize: queueSize(option, 'tx_queue_size'),
      enable: features(option),
      onError: (error) => context.log(`${name}: ${String(error)}`),
      nativeCalls: context.nativeCalls,
      ...(mtu === 0 ? {} : { hostMtu: mtu }),
    })
    const plugged = new NetPciDevice(context, option, device, 2 * pairs + 2)
    addBootIndex(context, option, `${firmwarePath('ethernet', plugged.address)}/ethernet-phy@0`)
    return plugged
  },
}

/** Frames must not come into the memory of a machine that stands. */
class NetPciDevice extends VirtioPciDevice {
  readonly #model: NetModel

  constructor(
    context: PlugContext,
    option: DeviceOption,
    device: VirtioDevice<NetModel>,
    vectors: number,
  ) {
    super(context, option, device, vectors, ROM)
    this.#model = device.model
  }

  override pause(): void {
    super.pause()
    this.#model.pause(true)
  }

  override close(): void {
    // Nothing is looked at later, when the memory is gone.
    this.pause()
    super.close()
  }

  override load(state: unknown): void {
    // The machine stands, also one that has never run.
    this.pause()
    super.load(state)
  }

  override resume(): void {
    super.resume()
    this.#model.pause(false)
  }
}

function queueSize(option: DeviceOption, key: string): number {
  const size = propertyReader(option).int(key, 64, 1024, 256)
  if ((size & (size - 1)) === 0) return size
  const name = option.id ?? option.driver
  throw new VmmError('E_DEVICE_OPTION', `Property '${name}.${key}' is ${size}: use a power of two`)
}

function features(option: DeviceOption): NetFeatures {
  const read = propertyReader(option)
  const enable: NetFeatures = {}
  for (const [name, feature] of Object.entries(FEATURES)) enable[feature] = read.bool(name, true)
  return enable
}
