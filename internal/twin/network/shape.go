package network

import (
	"encoding/json"

	"github.com/holdfast-backup/holdfast/internal/twin/arm"
	"github.com/holdfast-backup/holdfast/internal/twin/state"
)

// The shapes are what the twin keeps and shows of each type, with the types of the platform's members (Microsoft.Network,
// api-version 2024-05-01). The SDK's models would say it as well, but their package is the largest of all.
type (
	reference struct {
		ID string `json:"id"`
	}

	networkShape struct {
		Properties struct {
			AddressSpace struct {
				AddressPrefixes []string `json:"addressPrefixes"`
			} `json:"addressSpace"`
			DHCPOptions struct {
				DNSServers []string `json:"dnsServers"`
			} `json:"dhcpOptions"`
			EnableDDoSProtection bool          `json:"enableDdosProtection"`
			EnableVMProtection   bool          `json:"enableVmProtection"`
			Subnets              []subnetShape `json:"subnets"`
		} `json:"properties"`
	}

	subnetShape struct {
		Name       string `json:"name"`
		Properties struct {
			AddressPrefix        string    `json:"addressPrefix"`
			AddressPrefixes      []string  `json:"addressPrefixes"`
			NetworkSecurityGroup reference `json:"networkSecurityGroup"`
		} `json:"properties"`
	}

	interfaceShape struct {
		Properties struct {
			EnableAcceleratedNetworking bool      `json:"enableAcceleratedNetworking"`
			EnableIPForwarding          bool      `json:"enableIPForwarding"`
			NetworkSecurityGroup        reference `json:"networkSecurityGroup"`
			MACAddress                  string    `json:"macAddress"`
			DNSSettings                 struct {
				DNSServers []string `json:"dnsServers"`
			} `json:"dnsSettings"`
			IPConfigurations []struct {
				Name       string `json:"name"`
				Properties struct {
					Primary                   bool      `json:"primary"`
					PrivateIPAddress          string    `json:"privateIPAddress"`
					PrivateIPAddressVersion   string    `json:"privateIPAddressVersion"`
					PrivateIPAllocationMethod string    `json:"privateIPAllocationMethod"`
					Subnet                    reference `json:"subnet"`
					PublicIPAddress           reference `json:"publicIPAddress"`
				} `json:"properties"`
			} `json:"ipConfigurations"`
		} `json:"properties"`
	}

	securityGroupShape struct {
		Properties struct {
			SecurityRules []struct {
				Name       string         `json:"name"`
				Properties map[string]any `json:"properties"`
			} `json:"securityRules"`
		} `json:"properties"`
	}

	publicAddressShape struct {
		Zones      []string `json:"zones"`
		Properties struct {
			PublicIPAllocationMethod string `json:"publicIPAllocationMethod"`
			PublicIPAddressVersion   string `json:"publicIPAddressVersion"`
			IdleTimeoutInMinutes     int    `json:"idleTimeoutInMinutes"`
			DNSSettings              struct {
				DomainNameLabel string `json:"domainNameLabel"`
			} `json:"dnsSettings"`
		} `json:"properties"`
	}
)

// shaped lets put see only bodies that fit Shape.
func shaped[Shape any](put func(*arm.Call, string, *state.Document) (arm.Answer, error)) func(*arm.Call, string, *state.Document) (arm.Answer, error) {
	return func(call *arm.Call, id string, existing *state.Document) (arm.Answer, error) {
		if err := json.Unmarshal(call.Raw, new(Shape)); err != nil {
			return arm.Answer{}, arm.BadContent(err)
		}
		call.Body = call.Body.Given()
		return put(call, id, existing)
	}
}
