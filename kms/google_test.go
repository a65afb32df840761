package kms_test

import (
	"bytes"
	"context"
	"hash/crc32"
	"net"
	"testing"

	kmspb "cloud.google.com/go/kms/apiv1/kmspb"
	"github.com/stretchr/testify/require"
	"github.com/tink-crypto/tink-go-gcpkms/v2/integration/gcpkms"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/kms"
)

// google does two operations as Cloud KMS documents them. There is no emulator
// of it: this shows what the client asks for, not that Google agrees. Its
// ciphertext is a name, associated data and plaintext.
type google struct {
	kmspb.UnimplementedKeyManagementServiceServer
}

func sum(b []byte) *wrapperspb.Int64Value {
	return wrapperspb.Int64(int64(crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))))
}

func (google) prefix(name string, associatedData []byte) []byte {
	return append(append([]byte(name+"\x00"), associatedData...), 0)
}

func (g google) Encrypt(_ context.Context, r *kmspb.EncryptRequest) (*kmspb.EncryptResponse, error) {
	c := g.prefix(r.Name, r.AdditionalAuthenticatedData)
	for _, b := range r.Plaintext {
		c = append(c, ^b)
	}
	return &kmspb.EncryptResponse{
		Name: r.Name + "/cryptoKeyVersions/1", Ciphertext: c, CiphertextCrc32C: sum(c),
		VerifiedPlaintextCrc32C: true, VerifiedAdditionalAuthenticatedDataCrc32C: true,
	}, nil
}

func (g google) Decrypt(_ context.Context, r *kmspb.DecryptRequest) (*kmspb.DecryptResponse, error) {
	c, ok := bytes.CutPrefix(r.Ciphertext, g.prefix(r.Name, r.AdditionalAuthenticatedData))
	if !ok {
		return nil, status.Error(codes.InvalidArgument, "Decryption failed: the ciphertext is invalid.")
	}
	p := bytes.Clone(c)
	for i := range p {
		p[i] = ^p[i]
	}
	return &kmspb.DecryptResponse{Plaintext: p, PlaintextCrc32C: sum(p), UsedPrimary: true}, nil
}

func TestGoogle(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := grpc.NewServer()
	kmspb.RegisterKeyManagementServiceServer(server, google{})
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	open := func(name string) keyring.AEADKEK {
		kek, err := kms.OpenGoogle(t.Context(), "gcp-kms://projects/p/locations/global/keyRings/chat/cryptoKeys/"+name,
			gcpkms.WithGoogleAPIClientOptions(option.WithEndpoint(listener.Addr().String()), option.WithoutAuthentication(),
				option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials()))))
		require.NoError(t, err)
		return kek
	}
	kek, other := open("a"), open("b")
	id, wrapped, err := kek.Wrap(t.Context(), secret)
	require.NoError(t, err)
	require.Contains(t, string(wrapped), "projects/p/locations/global/keyRings/chat/cryptoKeys/a\x00"+id+"\x00")
	got, err := kek.Unwrap(t.Context(), id, wrapped)
	require.NoError(t, err)
	require.Equal(t, secret, got)

	_, foreign, err := keyring.AEADKEK{ID: id, AEAD: other.AEAD}.Wrap(t.Context(), secret)
	require.NoError(t, err)
	_, err = kek.Unwrap(t.Context(), id, foreign)
	require.ErrorContains(t, err, "InvalidArgument")
}
