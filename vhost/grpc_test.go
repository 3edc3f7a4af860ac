package vhost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// chatter is a gRPC service with one method of each kind. All are declared as
// streams, which they are on the wire.
var chatter = grpc.ServiceDesc{
	ServiceName: "test.Chatter",
	HandlerType: (*any)(nil),
	Streams: []grpc.StreamDesc{
		{StreamName: "Unary", Handler: unary},
		{StreamName: "Sum", Handler: sum, ClientStreams: true},
		{StreamName: "Count", Handler: count, ServerStreams: true},
		{StreamName: "Echo", Handler: echoAll, ClientStreams: true, ServerStreams: true},
	},
}

// unary answers with what it got, and with an error if it is asked for one.
func unary(_ any, s grpc.ServerStream) error {
	in := &wrapperspb.StringValue{}
	if err := s.RecvMsg(in); err != nil {
		return err
	}
	if in.Value == "fail" {
		return grpcstatus.Error(codes.FailedPrecondition, "as asked: ü%")
	}
	md, _ := metadata.FromIncomingContext(s.Context())
	s.SetHeader(metadata.Pairs("x-head", strings.Join(md["x-sent"], ","), "x-bin", "\x00\xff"))
	s.SetTrailer(metadata.Pairs("x-trail", "t", "x_under", "u"))
	return s.SendMsg(in)
}

// sum adds up lengths.
func sum(_ any, s grpc.ServerStream) error {
	total := 0
	for {
		in := &wrapperspb.StringValue{}
		if err := s.RecvMsg(in); err == io.EOF {
			return s.SendMsg(wrapperspb.String(fmt.Sprint(total)))
		} else if err != nil {
			return err
		}
		total += len(in.Value)
	}
}

// count sends a number of messages.
func count(_ any, s grpc.ServerStream) error {
	in := &wrapperspb.StringValue{}
	if err := s.RecvMsg(in); err != nil {
		return err
	}
	var n int
	fmt.Sscan(in.Value, &n)
	for i := range n {
		if err := s.SendMsg(wrapperspb.String(fmt.Sprint(i))); err != nil {
			return err
		}
	}
	return nil
}

// echoAll answers each message at once, and ends early when told to.
func echoAll(_ any, s grpc.ServerStream) error {
	for {
		in := &wrapperspb.StringValue{}
		if err := s.RecvMsg(in); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if in.Value == "end" {
			return grpcstatus.Error(codes.OutOfRange, "enough")
		}
		if err := s.SendMsg(in); err != nil {
			return err
		}
	}
}

// grpcFront is a real client, before the Router over TLS, before a real server
// in clear.
func grpcFront(t testing.TB) (*grpc.ClientConn, *secureGate) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	s.RegisterService(&chatter, struct{}{})
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	t.Cleanup(func() { s.Stop(); <-served })
	g := frontTLS(t, ln.Addr().String(), func(o *BackendOptions) { o.H2C = true })
	_, conf := testTLS()
	c, err := grpc.NewClient(g.addr, grpc.WithTransportCredentials(credentials.NewTLS(conf.Clone())))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, g
}

// grpcStream begins a call.
func grpcStream(t testing.TB, c *grpc.ClientConn, method string, opts ...grpc.CallOption) grpc.ClientStream {
	t.Helper()
	ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(context.Background(), "x-sent", "s"), patience)
	t.Cleanup(cancel)
	s, err := c.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/test.Chatter/"+method, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestGRPC(t *testing.T) {
	c, g := grpcFront(t)
	t.Run("unary", func(t *testing.T) {
		for _, size := range []int{0, 10, 1 << 20} {
			var head, trail metadata.MD
			in, out := wrapperspb.String(strings.Repeat("x", size)), &wrapperspb.StringValue{}
			ctx := metadata.AppendToOutgoingContext(t.Context(), "x-sent", "s")
			if err := c.Invoke(ctx, "/test.Chatter/Unary", in, out, grpc.Header(&head), grpc.Trailer(&trail)); err != nil || len(out.Value) != size {
				t.Fatalf("%d: %d bytes, %v", size, len(out.Value), err)
			}
			if fmt.Sprint(head["x-head"], trail["x-trail"], trail["x_under"]) != "[s] [t] [u]" || head["x-bin"][0] != "\x00\xff" {
				t.Errorf("%v %v", head, trail)
			}
		}
	})
	t.Run("error", func(t *testing.T) {
		err := c.Invoke(t.Context(), "/test.Chatter/Unary", wrapperspb.String("fail"), &wrapperspb.StringValue{})
		if s := grpcstatus.Convert(err); s.Code() != codes.FailedPrecondition || s.Message() != "as asked: ü%" {
			t.Error(err)
		}
		err = c.Invoke(t.Context(), "/test.Chatter/None", wrapperspb.String(""), &wrapperspb.StringValue{})
		if grpcstatus.Code(err) != codes.Unimplemented {
			t.Error(err)
		}
	})
	t.Run("client stream", func(t *testing.T) {
		s := grpcStream(t, c, "Sum")
		for range 100 {
			s.SendMsg(wrapperspb.String(strings.Repeat("x", 10_000)))
		}
		s.CloseSend()
		out := &wrapperspb.StringValue{}
		if err := s.RecvMsg(out); err != nil || out.Value != "1000000" {
			t.Errorf("%v, %v", out, err)
		}
	})
	t.Run("server stream", func(t *testing.T) {
		s := grpcStream(t, c, "Count")
		s.SendMsg(wrapperspb.String("1000"))
		s.CloseSend()
		out := &wrapperspb.StringValue{}
		for i := range 1000 {
			if err := s.RecvMsg(out); err != nil || out.Value != fmt.Sprint(i) {
				t.Fatalf("%d: %v, %v", i, out, err)
			}
		}
		if err := s.RecvMsg(out); err != io.EOF {
			t.Error(err)
		}
	})
	t.Run("both", func(t *testing.T) { bidi(t, c) })
	t.Run("many at once", func(t *testing.T) {
		for i := range 50 {
			t.Run(fmt.Sprint(i), func(t *testing.T) { t.Parallel(); bidi(t, c) })
		}
	})
	t.Run("one connection", func(t *testing.T) {
		g.backend.h2c.mu.Lock()
		defer g.backend.h2c.mu.Unlock()
		if n := len(g.backend.h2c.conns); n != 1 {
			t.Errorf("%d connections", n)
		}
	})
	t.Run("cancelled", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		s, err := c.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, "/test.Chatter/Echo")
		if err != nil {
			t.Fatal(err)
		}
		s.SendMsg(wrapperspb.String("x"))
		s.RecvMsg(&wrapperspb.StringValue{})
		cancel()
		until(t, "the end of the call", func() bool { all, _ := g.backend.sizes(); return all == 0 })
	})
	t.Run("tunnel lost", func(t *testing.T) {
		s := grpcStream(t, c, "Echo")
		s.SendMsg(wrapperspb.String("x"))
		s.RecvMsg(&wrapperspb.StringValue{})
		g.backend.Close(errors.New("tunnel lost"))
		if err := s.RecvMsg(&wrapperspb.StringValue{}); err == nil || err == io.EOF {
			t.Error(err)
		}
		err := c.Invoke(t.Context(), "/test.Chatter/Unary", wrapperspb.String(""), &wrapperspb.StringValue{})
		if grpcstatus.Code(err) != codes.Unavailable { // 503
			t.Error(err)
		}
	})
}

// bidi is a dialogue that the server ends.
func bidi(t *testing.T, c *grpc.ClientConn) {
	s, out := grpcStream(t, c, "Echo"), &wrapperspb.StringValue{}
	for i := range 20 {
		s.SendMsg(wrapperspb.String(fmt.Sprint(i)))
		if err := s.RecvMsg(out); err != nil || out.Value != fmt.Sprint(i) {
			t.Fatalf("%d: %v, %v", i, out, err)
		}
	}
	s.SendMsg(wrapperspb.String("end"))
	if err := s.RecvMsg(out); grpcstatus.Code(err) != codes.OutOfRange {
		t.Error(err)
	}
}
