import { bootableInfo, hostAddress, reconnect, virtioDriver } from './common.ts'
import { element, live, many, one, renamed, required, text } from './dsl.ts'
import * as s from './scalars.ts'
import type { ElementSpec } from './types.ts'

const types = [
  'user',
  'ethernet',
  'vhostuser',
  'server',
  'client',
  'mcast',
  'network',
  'bridge',
  'internal',
  'direct',
  'hostdev',
  'udp',
  'vdpa',
]

const source = element(
  'source',
  'what the card is connected to',
  {
    type: s.oneOf('unix', 'pci'),
    network: s.str,
    portgroup: s.str,
    portid: live(s.uuid),
    bridge: s.str,
    name: s.str,
    dev: s.str,
    mode: s.oneOf('vepa', 'private', 'bridge', 'passthrough', 'server', 'client'),
    address: renamed(s.str, 'ip'),
    port: s.uint(65_535),
    path: s.str,
  },
  [
    one(
      element('local', 'the end of UDP on the host', {
        address: s.str,
        port: required(s.uint(65_535)),
      }),
    ),
    one(hostAddress),
    one(reconnect),
  ],
)

const virtualport = element(
  'virtualport',
  'the port of a switch',
  { type: s.oneOf('none', '802.1Qbg', '802.1Qbh', 'openvswitch', 'midonet') },
  [
    one(
      element('parameters', 'what the switch is told', {
        managerid: s.uint(255),
        typeid: s.uint(0xff_ffff),
        typeidversion: s.uint(255),
        instanceid: s.uuid,
        interfaceid: s.str,
        profileid: s.str,
      }),
    ),
  ],
)

const flow = {
  average: s.uint(),
  peak: s.uint(),
  floor: s.uint(),
  burst: s.uint(),
}

const offloads = {
  csum: s.onOff,
  gso: s.onOff,
  tso4: s.onOff,
  tso6: s.onOff,
  ecn: s.onOff,
  ufo: s.onOff,
}
const { gso: _, ...guestOffloads } = offloads

const driver = element(
  'driver',
  'how the emulator offers the card',
  {
    name: s.oneOf('qemu', 'vhost', 'vfio', 'kvm', 'xen'),
    txmode: s.oneOf('iothread', 'timer'),
    ioeventfd: s.onOff,
    event_idx: s.onOff,
    queues: s.uint(0xffff_ffff, 1),
    rx_queue_size: s.uint(),
    tx_queue_size: s.uint(),
    rss: s.onOff,
    rss_hash_report: s.onOff,
    ...virtioDriver,
  },
  [
    one(
      element('host', 'what the host leaves to the network', { ...offloads, mrg_rxbuf: s.onOff }),
    ),
    one(element('guest', 'what the guest leaves to the network', guestOffloads)),
  ],
)

export const networkInterface: ElementSpec = element(
  'interface',
  'a network card',
  {
    type: required(s.oneOf(...types)),
    managed: s.yesNo,
    trustGuestRxFilters: s.yesNo,
  },
  [
    one(
      element('mac', 'address of the card', {
        address: required(s.mac),
        type: s.oneOf('generated', 'static'),
        check: s.yesNo,
      }),
    ),
    one(source),
    one(
      element('vlan', 'virtual networks of a switch', { trunk: s.yesNo }, [
        many(
          element('tag', 'one of them', {
            id: required(s.uint(4095)),
            nativeMode: s.oneOf('tagged', 'untagged'),
          }),
          'tags',
        ),
      ]),
    ),
    one(virtualport),
    one(
      element('bandwidth', 'limits in KiB per second', {}, [
        one(element('inbound', 'to the guest', flow)),
        one(element('outbound', 'from the guest', flow)),
      ]),
    ),
    one(element('port', 'a port of the bridge', { isolated: s.yesNo })),
    one(element('backenddomain', 'a driver domain of Xen', { name: required(s.str) })),
    many(
      element('ip', 'an address of the guest, or the network of type user', {
        address: required(s.address),
        family: s.oneOf('ipv4', 'ipv6'),
        prefix: s.uint(128),
        peer: s.address,
      }),
      'ips',
    ),
    one(element('script', 'a program that connects the card', { path: required(s.str) })),
    one(element('downscript', 'a program that disconnects it', { path: required(s.str) })),
    one(
      element('target', 'the end on the host', {
        dev: s.pattern(/^[^/\s]{1,15}$/, 'a name of at most 15 characters'),
        managed: s.yesNo,
      }),
    ),
    one(element('guest', 'name of the card in the guest', { dev: s.str, actual: live(s.str) })),
    one(
      element('model', 'kind of card', {
        type: required(s.wordLike('virtio', 'e1000', 'e1000e', 'rtl8139')),
      }),
    ),
    one(driver),
    one(element('backend', 'devices of the host', { tap: s.path, vhost: s.path })),
    one(
      element('filterref', 'a filter of packets', { filter: required(s.str) }, [
        many(
          element('parameter', 'a variable of it', {
            name: required(s.str),
            value: required(s.str),
          }),
          'parameters',
        ),
      ]),
    ),
    one(
      element('tune', 'buffers of the host', {}, [
        text('sndbuf', 'bytes of the send buffer', s.big),
      ]),
    ),
    one(
      element('link', 'whether the cable is plugged in', {
        state: required(s.oneOf('up', 'down')),
      }),
    ),
    one(element('mtu', 'most bytes of a packet', { size: required(s.uint(65_535, 1)) })),
    one(
      element('coalesce', 'how interrupts are gathered', {}, [
        one(
          element('rx', 'for received packets', {}, [
            one(element('frames', 'packets for an interrupt', { max: s.uint() })),
          ]),
        ),
      ]),
    ),
    one(
      element('teaming', 'two cards that stand in for each other', {
        type: required(s.oneOf('persistent', 'transient')),
        persistent: s.str,
      }),
    ),
    ...bootableInfo,
  ],
  { typeName: 'NetworkInterface' },
)
