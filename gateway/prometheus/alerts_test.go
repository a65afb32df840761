package prometheus_test

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAlerts(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		if os.Getenv("CHATTOKEN_REQUIRE") == "1" {
			t.Fatal("promtool is missing (Debian: apt-get install prometheus)")
		}
		t.Skip("SKIPPED: promtool is missing (Debian: apt-get install prometheus)")
	}
	for _, args := range [][]string{{"check", "rules", "alerts.yml"}, {"test", "rules", "testdata/alerts_test.yml"}} {
		out, err := exec.Command(promtool, args...).CombinedOutput()
		require.NoError(t, err, "promtool %v: %s", args, out)
	}
}

// promtool doesn't know which metrics exist.
func TestAlertsNameMetrics(t *testing.T) {
	series := newHouse(t).scrape(t)
	for _, file := range []string{"alerts.yml", "testdata/alerts_test.yml", "prometheus.go"} {
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		names := regexp.MustCompile(`chattoken_gateway_[a-z_]+`).FindAllString(string(data), -1)
		require.NotEmpty(t, names)
		for _, name := range names {
			name = strings.TrimPrefix(name, "chattoken_gateway_")
			_, plain := series[name]
			_, labeled := series[name+"/revoked"] // a reason and a cause
			require.True(t, plain || labeled || name == "", "%s: %s", file, name)
		}
	}
}
