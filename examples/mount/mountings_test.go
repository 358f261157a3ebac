package mount

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/labstack/echo/v4"
	echomiddleware "github.com/labstack/echo/v4/middleware"
	"github.com/realtime-go/realtime"
)

// mounting is one way to mount a Manager and its REST API.
type mounting struct {
	prefix string
	mount  func(rt, api http.Handler) http.Handler
	serve  func(*httptest.Server) // nil means Start
}

func mountings() map[string]mounting {
	return map[string]mounting{
		"net/http":                       {mount: plain},
		"net/http, prefix stripped":      {prefix: "/a/b", mount: stripped},
		"net/http, prefix kept":          {prefix: "/a/b", mount: kept},
		"net/http over TLS":              {mount: plain, serve: (*httptest.Server).StartTLS},
		"realtime.NewServer":             {mount: plain, serve: startNewServer},
		"chi":                            {mount: onChi()},
		"chi, Mount":                     {prefix: "/a", mount: mountedOnChi},
		"chi, Handle under a prefix":     {prefix: "/a", mount: handledByChi},
		"chi, Logger":                    {mount: onChi(chiLogger())},
		"chi, Recoverer":                 {mount: onChi(middleware.Recoverer)},
		"chi, Timeout":                   {mount: onChi(middleware.Timeout(time.Second))},
		"chi, Compress":                  {mount: onChi(middleware.Compress(5))},
		"chi, Throttle":                  {mount: onChi(middleware.Throttle(1))},
		"chi, all of them":               {mount: onChi(allOfChi()...)},
		"gin":                            {mount: onGin()},
		"gin, Logger and Recovery":       {mount: onGin(ginLogger(), gin.Recovery())},
		"gin, group":                     {prefix: "/a", mount: groupedOnGin},
		"echo":                           {mount: onEcho()},
		"echo, Logger and Recover":       {mount: onEcho(echoLogger(), echomiddleware.Recover())},
		"echo, Gzip":                     {mount: onEcho(echomiddleware.Gzip())},
		"echo, Logger, Recover and Gzip": {mount: onEcho(allOfEcho()...)},
		"echo, group":                    {prefix: "/a", mount: groupedOnEcho},
	}
}

func plain(rt, api http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/ws", rt)
	mux.Handle("/connections/", api)
	mux.Handle("/rooms/", api)
	mux.Handle("/stats", api)
	return mux
}

func stripped(rt, api http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/a/b/", http.StripPrefix("/a/b", plain(rt, api)))
	return mux
}

// kept needs no StripPrefix: the Manager ignores the path, and the REST API looks only at its end.
func kept(rt, api http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/a/b/ws", rt)
	mux.Handle("/a/b/", api)
	return mux
}

func startNewServer(s *httptest.Server) {
	config := realtime.NewServer("", s.Config.Handler)
	config.ErrorLog = s.Config.ErrorLog
	s.Config = config
	s.Start()
}

func onChi(use ...func(http.Handler) http.Handler) func(rt, api http.Handler) http.Handler {
	return func(rt, api http.Handler) http.Handler {
		r := chi.NewRouter()
		r.Use(use...)
		r.Handle("/ws", rt)
		r.Handle("/*", api)
		return r
	}
}

func mountedOnChi(rt, api http.Handler) http.Handler {
	r := chi.NewRouter()
	r.Mount("/a", onChi()(rt, api))
	return r
}

func handledByChi(rt, api http.Handler) http.Handler {
	r := chi.NewRouter()
	r.Handle("/a/ws", rt)
	r.Handle("/a/*", api)
	return r
}

func chiLogger() func(http.Handler) http.Handler {
	return middleware.RequestLogger(&middleware.DefaultLogFormatter{
		Logger: log.New(io.Discard, "", 0), NoColor: true,
	})
}

func allOfChi() []func(http.Handler) http.Handler {
	return []func(http.Handler) http.Handler{
		chiLogger(), middleware.Recoverer, middleware.Timeout(time.Second),
		middleware.Compress(5), middleware.Throttle(1),
	}
}

func onGin(use ...gin.HandlerFunc) func(rt, api http.Handler) http.Handler {
	return func(rt, api http.Handler) http.Handler {
		r := newGin()
		r.Use(use...)
		ginRoutes(r, rt, api)
		return r
	}
}

func groupedOnGin(rt, api http.Handler) http.Handler {
	r := newGin()
	ginRoutes(r.Group("/a"), rt, api)
	return r
}

// ginRoutes uses patterns with a wildcard at the end, because a room name may contain a slash,
// which gin decodes before it selects the route.
func ginRoutes(r gin.IRoutes, rt, api http.Handler) {
	r.GET("/ws", gin.WrapH(rt))
	r.Any("/connections/*path", gin.WrapH(api))
	r.Any("/rooms/*path", gin.WrapH(api))
	r.Any("/stats", gin.WrapH(api))
}

func newGin() *gin.Engine {
	gin.SetMode(gin.TestMode)
	return gin.New()
}

func ginLogger() gin.HandlerFunc { return gin.LoggerWithWriter(io.Discard) }

func onEcho(use ...echo.MiddlewareFunc) func(rt, api http.Handler) http.Handler {
	return func(rt, api http.Handler) http.Handler {
		e := echo.New()
		e.Use(use...)
		e.GET("/ws", echo.WrapHandler(rt))
		e.Any("/*", echo.WrapHandler(api))
		return e
	}
}

func groupedOnEcho(rt, api http.Handler) http.Handler {
	e := echo.New()
	g := e.Group("/a")
	g.GET("/ws", echo.WrapHandler(rt))
	g.Any("/*", echo.WrapHandler(api))
	return e
}

func echoLogger() echo.MiddlewareFunc {
	return echomiddleware.RequestLoggerWithConfig(echomiddleware.RequestLoggerConfig{
		LogStatus: true, LogURI: true,
		LogValuesFunc: func(echo.Context, echomiddleware.RequestLoggerValues) error { return nil },
	})
}

func allOfEcho() []echo.MiddlewareFunc {
	return []echo.MiddlewareFunc{echoLogger(), echomiddleware.Recover(), echomiddleware.Gzip()}
}
