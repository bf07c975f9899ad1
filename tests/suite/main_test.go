package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestCount(t *testing.T) {
	for name, c := range map[string]struct {
		events []string
		want   string
	}{
		"nothing": {nil, "0 passed, 0 failed, 0 skipped\n"},
		"a test, a subtest, a skipped one": {
			[]string{
				`{"Action":"start","Package":"p"}`,
				`{"Action":"run","Package":"p","Test":"A"}`,
				`{"Action":"run","Package":"p","Test":"A/x"}`,
				`{"Action":"pass","Package":"p","Test":"A/x"}`,
				`{"Action":"pass","Package":"p","Test":"A"}`,
				`{"Action":"run","Package":"p","Test":"B"}`,
				`{"Action":"output","Package":"p","Test":"B","Output":"=== RUN   B\n"}`,
				`{"Action":"output","Package":"p","Test":"B","Output":"    b_test.go:7: no engine\n"}`,
				`{"Action":"output","Package":"p","Test":"B","Output":"--- SKIP: B (0.00s)\n"}`,
				`{"Action":"skip","Package":"p","Test":"B"}`,
				`{"Action":"pass","Package":"p"}`,
				`{"Action":"skip","Package":"without tests"}`,
			},
			"skipped: p B: b_test.go:7: no engine\n2 passed, 0 failed, 1 skipped\n",
		},
		"a failed test is not counted again with its package": {
			[]string{
				`{"Action":"run","Package":"p","Test":"A"}`,
				`{"Action":"fail","Package":"p","Test":"A"}`,
				`{"Action":"fail","Package":"p"}`,
			},
			"0 passed, 1 failed, 0 skipped\n",
		},
		"a package that does not compile": {
			[]string{`{"Action":"output","Package":"p","Output":"FAIL p [build failed]\n"}`, `{"Action":"fail","Package":"p"}`},
			"0 passed, 1 failed, 0 skipped\n",
		},
		"a process that died": {
			[]string{
				`{"Action":"run","Package":"p","Test":"A"}`,
				`{"Action":"run","Package":"p","Test":"B"}`,
				`{"Action":"pass","Package":"p","Test":"A"}`,
				`{"Action":"fail","Package":"p"}`,
			},
			"1 passed, 1 failed, 0 skipped\n",
		},
		"events that stop": {
			[]string{`{"Action":"run","Package":"p","Test":"A"}`},
			"0 passed, 1 failed, 0 skipped\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			sum, err := count(strings.NewReader(strings.Join(c.events, "\n")))
			require.NoError(t, err)
			require.Equal(t, c.want, sum.String())
		})
	}
	_, err := count(strings.NewReader("not JSON"))
	require.Error(t, err)
}
