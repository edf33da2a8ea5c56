// Everything that a Go program could do with a daemon in a while, by go-libvirt, which speaks the protocol by itself. What it
// learns is printed: it is the same of both daemons.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"sort"
	"strings"
	"time"

	"github.com/digitalocean/go-libvirt"
	"github.com/digitalocean/go-libvirt/socket/dialers"
)

var failed = false

func say(words ...interface{}) { fmt.Println(words...) }

// must says what was not to fail.
func must(what string, err error) {
	if err != nil {
		failed = true
		say("failed:", what, err)
	}
}

// refused says how something that cannot be was refused.
func refused(what string, err error) {
	var known libvirt.Error
	if errors.As(err, &known) {
		say("refused", what, known.Code, known.Message)
		return
	}
	failed = true
	say("not refused:", what, err)
}

func main() {
	path, folder, file := os.Args[1], os.Args[2], os.Args[3]
	l := libvirt.NewWithDialer(dialers.NewLocal(dialers.WithSocket(path), dialers.WithLocalTimeout(10*time.Second)))
	must("connect", l.ConnectToURI(libvirt.QEMUSession))
	kind, err := l.ConnectGetType()
	must("type", err)
	version, err := l.ConnectGetVersion()
	must("version", err)
	library, err := l.ConnectGetLibVersion()
	must("library", err)
	say(kind, version, library, l.IsConnected())

	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	events, err := l.LifecycleEvents(ctx)
	must("events", err)

	all := libvirt.ConnectListDomainsActive | libvirt.ConnectListDomainsInactive
	list, count, err := l.ConnectListAllDomains(1, all)
	must("list", err)
	say("domains", len(list), count)
	_, err = l.DomainLookupByName("p")
	refused("look up", err)

	document, err := os.ReadFile(file)
	must("read", err)
	dom, err := l.DomainDefineXMLFlags(string(document), libvirt.DomainDefineValidate)
	must("define", err)
	say(dom.Name, fmt.Sprintf("%x", dom.UUID), dom.ID)
	must("autostart", l.DomainSetAutostart(dom, 1))
	autostart, err := l.DomainGetAutostart(dom)
	must("autostart", err)
	must("autostart", l.DomainSetAutostart(dom, 0))
	say("autostart", autostart)
	must("metadata", l.DomainSetMetadata(dom, int32(libvirt.DomainMetadataTitle), libvirt.OptString{"one"}, nil, nil, 0))
	title, err := l.DomainGetMetadata(dom, int32(libvirt.DomainMetadataTitle), nil, 0)
	must("metadata", err)
	say("title", title)
	xml, err := l.DomainGetXMLDesc(dom, libvirt.DomainXMLInactive)
	must("xml", err)
	say(xml)
	refused("suspend", l.DomainSuspend(dom))

	started, err := l.DomainCreateWithFlags(dom, uint32(libvirt.DomainStartPaused))
	must("create", err)
	_, err = l.DomainCreateWithFlags(dom, 0)
	refused("create", err)
	state, reason, err := l.DomainGetState(dom, 0)
	must("state", err)
	say("paused", state, reason, started.ID > 0)
	must("resume", l.DomainResume(dom))
	state, reason, err = l.DomainGetState(dom, 0)
	must("state", err)
	say("running", state, reason)
	_, most, memory, vcpus, _, err := l.DomainGetInfo(dom)
	must("info", err)
	say("info", most, memory, vcpus)
	running, err := l.DomainLookupByUUID(dom.UUID)
	must("look up", err)
	records, err := l.ConnectGetAllDomainStats([]libvirt.Domain{running}, uint32(libvirt.DomainStatsState|libvirt.DomainStatsVCPU|libvirt.DomainStatsBalloon), 0)
	must("statistics", err)
	var fields []string
	for _, record := range records {
		for _, param := range record.Params {
			fields = append(fields, fmt.Sprint(param.Field, " ", param.Value.D))
		}
	}
	sort.Strings(fields)
	say(fields)
	addresses, err := l.DomainInterfaceAddresses(running, uint32(libvirt.DomainInterfaceAddressesSrcLease), 0)
	must("addresses", err)
	say("addresses", len(addresses))
	answer, err := l.QEMUDomainMonitorCommand(running, `{"execute":"query-name"}`, 0)
	must("monitor", err)
	say("monitor", strings.Contains(answer, `{"return":{"name":"p"}`))

	pool, err := l.StoragePoolCreateXML("<pool type='dir'><name>g</name><target><path>"+folder+"/pool</path></target></pool>", 0)
	must("pool", err)
	volume, err := l.StorageVolCreateXML(pool, "<volume><name>v</name><capacity>300000</capacity></volume>", 0)
	must("volume", err)
	data := make([]byte, 300000)
	for i := range data {
		data[i] = byte(i * 7)
	}
	must("upload", l.StorageVolUpload(volume, bytes.NewReader(data), 0, 0, 0))
	var got bytes.Buffer
	must("download", l.StorageVolDownload(volume, &got, 0, 0, 0))
	say("volume", volume.Name, got.Len(), bytes.Equal(got.Bytes(), data))
	_, err = l.StorageVolLookupByName(pool, "w")
	refused("volume", err)
	must("delete", l.StorageVolDelete(volume, 0))
	must("pool", l.StoragePoolDestroy(pool))
	networks, _, err := l.ConnectListAllNetworks(1, 0)
	must("networks", err)
	_ = networks

	must("destroy", l.DomainDestroy(dom))
	refused("destroy", l.DomainDestroy(dom))
	must("undefine", l.DomainUndefineFlags(dom, 0))
	refused("undefine", l.DomainUndefineFlags(dom, 0))
	timeout := time.After(20 * time.Second)
	for last := false; !last; {
		select {
		case it := <-events:
			// That an emulator which is ended shuts down is told or not, as its last words are heard or not.
			if it.Event != int32(libvirt.DomainEventShutdown) {
				say("event", it.Dom.Name, it.Event, it.Detail)
			}
			last = it.Event == int32(libvirt.DomainEventUndefined)
		case <-timeout:
			failed = true
			say("the last event did not come")
			last = true
		}
	}
	must("disconnect", l.Disconnect())
	if failed {
		os.Exit(1)
	}
	say("end")
}
